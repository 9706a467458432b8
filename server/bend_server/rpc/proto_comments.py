"""What the comments of the protos say: summaries, descriptions, and errors by HTTP status."""

import functools
import re
from importlib.resources import files
from typing import NamedTuple

import grpc
import orjson

# What the gateway's transcoder makes of a gRPC status.
HTTP_STATUSES = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNAVAILABLE: 503,
}
_SENTENCE = re.compile(r"\.(?:\s+|$)")
_ERRORS = re.compile(r"(?:^|\s)Errors(?: common to all)?: ")
_AS = re.compile(r"(?:otherwise )?as ([A-Z]\w+)")
# Reasons and codes; a short word in capitals, such as SQL or JSON, is prose.
_NAME = re.compile(r"\b[A-Z]+(?:_[A-Z]+)+\b|\b(?:OVERLOADED|UNAVAILABLE|UNAUTHENTICATED)\b")

Errors = dict[int, list[str]]


class Comment(NamedTuple):
    """A comment's first sentence, without its full stop, and all that follows but the errors."""

    summary: str
    description: str


@functools.cache
def _all() -> dict[str, str]:
    file = files("bend_server.rpc") / "proto_comments.json"
    read: dict[str, str] = orjson.loads(file.read_bytes())
    return read


def text(name: str) -> str:
    """Return the comment of what has a full name, `bend.v1.Execution.labels`; empty without."""
    return _all().get(name, "")


def comment(name: str) -> Comment:
    """Return the comment of an RPC or a service in parts."""
    told = _ERRORS.split(text(name), maxsplit=1)[0]
    summary, *rest = _SENTENCE.split(told, maxsplit=1)
    return Comment(summary.strip(), "".join(rest).strip())


def errors(rpc: str) -> Errors:
    """Return what the comment of an RPC, and of its service, says of errors: by HTTP status.

    Each entry is Markdown, one gRPC code with its reason and when it comes. `as X` takes the
    entries of the RPC X of the same service along.

    Args:
        rpc: full name, `bend.v1.EngineService.RunWorkflow`.
    """
    service = rpc.rpartition(".")[0]
    found: Errors = {}
    for name in (rpc, service):
        for status, entries in _errors_of(name, service).items():
            known = found.setdefault(status, [])
            known += [entry for entry in entries if entry not in known]
    return dict(sorted(found.items()))


def _errors_of(name: str, service: str) -> Errors:
    found: Errors = {}
    _, *told = _ERRORS.split(text(name), maxsplit=1)
    for entry in re.split(r"; |, (?=[A-Z_]+[ ,]|[A-Z_]+$)", "".join(told).rstrip(".")):
        same = _AS.fullmatch(entry)
        if same:
            for status, entries in _errors_of(f"{service}.{same[1]}", service).items():
                found.setdefault(status, []).extend(entries)
            continue
        code = getattr(grpc.StatusCode, entry.split(" ", 1)[0], None)
        if code is not None:
            marked = _NAME.sub(lambda match: f"`{match[0]}`", entry)
            found.setdefault(HTTP_STATUSES[code], []).append(marked)
    return found
