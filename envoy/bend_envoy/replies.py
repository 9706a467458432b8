"""Errors that Envoy makes itself, in the shape of every other error: google.rpc.Status as JSON."""

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
                "filter": {"and_filter": {"filters": [_grpc_type(), _not_transcoded()]}},
                "body_format_override": {
                    "text_format_source": {"inline_string": "%LOCAL_REPLY_BODY%"}
                },
            },
            *(_mapper(status, code, reason) for status, (code, reason) in STATUSES.items()),
        ]
    }


def _grpc_type() -> Json:
    return {
        "header_filter": {
            "header": {"name": "content-type", "string_match": {"prefix": "application/grpc"}}
        }
    }


def _not_transcoded() -> Json:
    return {
        "header_filter": {
            "header": {
                "name": "x-envoy-original-path",
                "present_match": True,
                "invert_match": True,
            }
        }
    }


def _mapper(status: int, code: int, reason: str) -> Json:
    return {
        "filter": {
            "status_code_filter": {
                "comparison": {
                    "op": "EQ",
                    "value": {"default_value": status, "runtime_key": f"bend.reply.{status}"},
                }
            }
        },
        "body_format_override": {"json_format": _status(code, reason)},
    }


def _status(code: int, reason: str) -> Json:
    return {
        "code": code,
        "message": "%LOCAL_REPLY_BODY%",
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": reason,
                "domain": "bend.v1",
                "metadata": {"origin": "gateway", "request_id": "%STREAM_ID%"},
            }
        ],
    }
