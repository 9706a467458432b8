"""The OpenAPI 3.1 document, made from the descriptors of the services and their REST paths.

Its words are the comments of the protos: one text for those who read either.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from google.api import annotations_pb2
from google.protobuf.descriptor import (
    Descriptor,
    EnumDescriptor,
    FieldDescriptor,
    MethodDescriptor,
    ServiceDescriptor,
)

from bend_server.rpc import proto_comments, rest_schemas
from bend_server.rpc.permissions import PUBLIC, RULES
from bend_server.rpc.rest_schemas import Schema

VERBS = ("get", "put", "post", "delete", "patch")
HTTP_BODY = "google.api.HttpBody"
_PARAMETER = re.compile(r"\{([^}=]+)(?:=[^}]*)?\}")
_SCALARS: dict[int, Schema] = {
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.TYPE_SINT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.TYPE_UINT32: {"type": "integer", "format": "uint32"},
    FieldDescriptor.TYPE_FIXED32: {"type": "integer", "format": "uint32"},
    FieldDescriptor.TYPE_FLOAT: {"type": "number", "format": "float"},
    FieldDescriptor.TYPE_DOUBLE: {"type": "number", "format": "double"},
}
_KNOWN: dict[str, Schema] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "examples": ["60s"]},
}
_ERROR = "google.rpc.Status"


def document(services: Iterable[ServiceDescriptor], version: str) -> Schema:
    """Return the document for all REST paths of the services.

    Args:
        services: descriptors; RPCs without a REST path are left out.
        version: of the product.
    """
    schemas = _Schemas()
    paths: dict[str, Schema] = {}
    tags = []
    for service in services:
        about = proto_comments.comment(service.full_name)
        tags.append({"name": service.name, "description": ". ".join(filter(None, about))})
        for method in service.methods:
            rule = method.GetOptions().Extensions[annotations_pb2.http]
            for number, (verb, path, body, answer) in enumerate(_bindings(rule)):
                operation = _operation(schemas, method, path, body, answer)
                operation["tags"] = [service.name]
                operation["operationId"] = method.name + (str(number + 1) if number else "")
                paths.setdefault(_PARAMETER.sub(r"{\1}", path), {})[verb] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Bend",
            "version": version,
            "description": "Durable, declarative workflows. REST is the gRPC API bend.v1, "
            "transcoded. Unknown fields in bodies of protobuf messages are ignored; in documents "
            "and start requests they are errors.",
        },
        "tags": tags,
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": dict(sorted({**schemas.made, **rest_schemas.COMPONENTS}.items())),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "certificate": {
                    "type": "mutualTLS",
                    "description": "A client certificate of the mesh, its SPIFFE id in the URI.",
                },
            },
        },
    }


def _bindings(rule: Any) -> Iterator[tuple[str, str, str, str]]:
    """Yield verb, path, body field and response field of a rule and its additional ones."""
    for one in (rule, *rule.additional_bindings):
        verb = one.WhichOneof("pattern")
        if verb in VERBS:
            yield verb, getattr(one, verb), one.body, one.response_body


def _operation(
    schemas: "_Schemas", method: MethodDescriptor, path: str, body: str, answer: str
) -> Schema:
    request, response = method.input_type, method.output_type
    in_path = _PARAMETER.findall(path)
    operation = {
        **_words(method),
        "parameters": [
            {**_parameter(schemas, request.fields_by_name[name], "path"), "required": True}
            for name in in_path
        ],
    }
    # A raw body that is called `body` stands for all other fields.
    if body not in {"*", "body"}:
        for field in request.fields:
            if field.name in {*in_path, body} or not _queryable(field):
                continue
            operation["parameters"].append(_parameter(schemas, field, "query"))
    if body:
        operation["requestBody"] = {
            "required": True,
            "content": _request_content(schemas, request, body, in_path),
        }
    operation["responses"] = {
        "200": {"description": "OK", "content": _answer_content(schemas, response, answer)},
        **{
            str(status): _error(schemas, ". ".join(entries) + ".")
            for status, entries in proto_comments.errors(method.full_name).items()
        },
        "default": _error(schemas, "An error: google.rpc.Status with ErrorInfo in its details."),
    }
    return operation


def _words(method: MethodDescriptor) -> Schema:
    """Say what an RPC does, and what its caller needs to be allowed."""
    about = proto_comments.comment(method.full_name)
    words: Schema = {"summary": about.summary}
    if about.description:
        words["description"] = about.description
    service = method.containing_service.full_name
    permission = RULES[f"/{service}/{method.name}"].permission
    needed = [] if permission == PUBLIC else [permission]
    words["security"] = [{"bearer": needed}, {"certificate": needed}] if needed else []
    return words


def _parameter(schemas: "_Schemas", field: FieldDescriptor, place: str) -> Schema:
    parameter = {"name": field.name, "in": place, "schema": schemas.field(field)}
    return _described(parameter, field.full_name)


def _described(schema: Schema, name: str) -> Schema:
    """Add the comment of what has a full name, where there is one."""
    told = proto_comments.text(name)
    return {**schema, "description": told} if told else schema


def _error(schemas: "_Schemas", told: str) -> Schema:
    return {
        "description": told,
        "content": {"application/json": {"schema": schemas.error()}},
    }


def _queryable(field: FieldDescriptor) -> bool:
    if field.type != FieldDescriptor.TYPE_MESSAGE:
        return True
    return _name_of(field) in _KNOWN


def _name_of(field: FieldDescriptor) -> str:
    """Return the full name of a field's message; empty for other fields."""
    return "" if field.message_type is None else field.message_type.full_name


def _request_content(
    schemas: "_Schemas", request: Descriptor, body: str, in_path: list[str]
) -> Schema:
    if body == "*":
        properties = {
            field.name: _described(schemas.field(field), field.full_name)
            for field in request.fields
            if field.name not in in_path
        }
        return {"application/json": {"schema": {"type": "object", "properties": properties}}}
    field = request.fields_by_name[body]
    if _name_of(field) == HTTP_BODY:
        content: Schema = rest_schemas.REQUESTS[f"{request.full_name}.{body}"]
        return content
    return {"application/json": {"schema": schemas.field(field)}}


def _answer_content(schemas: "_Schemas", response: Descriptor, answer: str) -> Schema:
    if answer and _name_of(response.fields_by_name[answer]) == HTTP_BODY:
        content: Schema = rest_schemas.RESPONSES[response.full_name]
        return content
    return {"application/json": {"schema": schemas.message(response)}}


class _Schemas:
    """Schemas of messages by proto's JSON mapping, each made once and referred to."""

    def __init__(self) -> None:
        self.made: dict[str, Schema] = {}

    def message(self, described: Descriptor) -> Schema:
        name = described.full_name
        if name in _KNOWN:
            return _KNOWN[name]
        if name not in self.made:
            whole = _described({"type": "object"}, name)
            self.made[name] = whole
            whole["properties"] = {
                field.name: _described(self.field(field), field.full_name)
                for field in described.fields
                if _name_of(field) != HTTP_BODY
            }
        return {"$ref": f"#/components/schemas/{name}"}

    def field(self, field: FieldDescriptor) -> Schema:
        entry = field.message_type
        if entry is not None and entry.GetOptions().map_entry:
            return {
                "type": "object",
                "additionalProperties": self._one(entry.fields_by_name["value"]),
            }
        one = self._one(field)
        return {"type": "array", "items": one} if field.is_repeated else one

    def _one(self, field: FieldDescriptor) -> Schema:
        if field.message_type is not None:
            return self.message(field.message_type)
        if field.enum_type is not None:
            return _enum(field.enum_type)
        # 64-bit integers are strings in proto's JSON.
        return _SCALARS.get(field.type, {"type": "string", "format": "int64"})

    def error(self) -> Schema:
        self.made.setdefault(
            _ERROR,
            {
                "type": "object",
                "properties": {
                    "code": {"type": "integer", "format": "int32"},
                    "message": {"type": "string"},
                    "details": {"type": "array", "items": {"type": "object"}},
                },
                "required": ["code", "message"],
            },
        )
        return {"$ref": f"#/components/schemas/{_ERROR}"}


def _enum(described: EnumDescriptor) -> Schema:
    return {"type": "string", "enum": [value.name for value in described.values if value.number]}
