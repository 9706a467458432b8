"""Errors that Envoy makes itself, in the shape of every other error: google.rpc.Status as JSON."""

from bend_envoy.settings import BODY_BYTES_MAX
from bend_envoy.types import Json

CANCELLED, INVALID, DEADLINE, NOT_FOUND, DENIED = 1, 3, 4, 5, 7
EXHAUSTED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, UNAUTHENTICATED = 8, 12, 13, 14, 16

# HTTP status → google.rpc.Code and bend.v1.ErrorReason without its prefix.
STATUSES: dict[int, tuple[int, str]] = {
    400: (INVALID, "INVALID_REQUEST"),
    401: (UNAUTHENTICATED, "UNAUTHENTICATED"),
    403: (DENIED, "PERMISSION_DENIED"),
    404: (NOT_FOUND, "INVALID_REQUEST"),
    405: (UNIMPLEMENTED, "INVALID_REQUEST"),
    408: (DEADLINE, "DEPENDENCY_DOWN"),
    413: (EXHAUSTED, "TOO_LARGE"),
    415: (INVALID, "INVALID_REQUEST"),
    426: (INVALID, "INVALID_REQUEST"),
    429: (EXHAUSTED, "OVERLOADED"),
    431: (EXHAUSTED, "TOO_LARGE"),
    499: (CANCELLED, "INTERNAL"),
    500: (INTERNAL, "INTERNAL"),
    501: (UNIMPLEMENTED, "NOT_BUILT"),
    502: (UNAVAILABLE, "DEPENDENCY_DOWN"),
    503: (UNAVAILABLE, "DEPENDENCY_DOWN"),
    504: (DEADLINE, "DEPENDENCY_DOWN"),
}


def local_replies() -> Json:
    """Return `local_reply_config`.

    A native gRPC call keeps its plain text, which becomes `grpc-message`. A transcoded one has
    the same content type by then; only the path it came with tells them apart.
    """
    return {
        "mappers": [
            {
                "filter": {
                    "and_filter": {"filters": [_grpc_type(), _absent("x-envoy-original-path")]}
                },
                "body_format_override": {
                    "text_format_source": {"inline_string": "%LOCAL_REPLY_BODY%"}
                },
            },
            *_silent(),
            *(_mapper(status, code, reason) for status, (code, reason) in STATUSES.items()),
        ]
    }


def _grpc_type() -> Json:
    return {
        "header_filter": {
            "header": {"name": "content-type", "string_match": {"prefix": "application/grpc"}}
        }
    }


def _absent(header: str) -> Json:
    return {
        "header_filter": {"header": {"name": header, "present_match": True, "invert_match": True}}
    }


def _silent() -> list[Json]:
    """Return mappers for refusals that Envoy gives no text, or one that names no limit."""
    no_host = "no such host at this door; it is called localhost or 127.0.0.1"
    no_http = "the request cannot be read: %RESPONSE_CODE_DETAILS%"
    too_large = f"the body is larger than {BODY_BYTES_MAX} bytes"
    return [
        _mapper(404, *STATUSES[404], no_host, {"response_flag_filter": {"flags": ["NR"]}}),
        _mapper(400, *STATUSES[400], no_http, _absent("x-request-id")),
        _mapper(413, *STATUSES[413], too_large),
    ]


def _mapper(
    status: int,
    code: int,
    reason: str,
    message: str = "%LOCAL_REPLY_BODY%",
    further: Json | None = None,
) -> Json:
    """Return one mapper of a status; `further`: another filter that has to hold."""
    chosen: Json = {
        "status_code_filter": {
            "comparison": {
                "op": "EQ",
                "value": {"default_value": status, "runtime_key": f"bend.reply.{status}"},
            }
        }
    }
    if further is not None:
        chosen = {"and_filter": {"filters": [chosen, further]}}
    return {
        "filter": chosen,
        "body_format_override": {"json_format": _status(code, reason, message)},
    }


def _status(code: int, reason: str, message: str) -> Json:
    return {
        "code": code,
        "message": message,
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": reason,
                "domain": "bend.v1",
                "metadata": {"origin": "gateway", "request_id": "%STREAM_ID%"},
            }
        ],
    }
