"""Bodies of requests and responses: JSON where it is JSON, text where it is text."""

import base64
from email.message import Message
from typing import Any

from bend import TerminalError, payloads


def encode(body: Any) -> tuple[bytes, str]:
    """Return (bytes, content type) of a request's body: text as it is, the rest as JSON."""
    if isinstance(body, str):
        return body.encode(), "text/plain; charset=utf-8"
    return payloads.dumps(body), "application/json"


def media_type(header: str) -> tuple[str, str]:
    """Return (type in lower case, charset or utf-8) of a Content-Type header."""
    message = Message()
    message["content-type"] = header or "application/octet-stream"
    return message.get_content_type(), message.get_content_charset() or "utf-8"


def decode(data: bytes, header: str) -> Any:
    """Return a response's body: parsed JSON, or {"text"}, or {"base64", "content_type"}.

    An empty body is None. Raises TerminalError INVALID_RESPONSE when a JSON body does not parse.
    """
    if not data:
        return None
    kind, charset = media_type(header)
    if kind == "application/json" or kind.endswith("+json"):
        try:
            return payloads.loads(data)
        except ValueError as error:
            raise TerminalError(
                "INVALID_RESPONSE", f"the JSON body does not parse: {error}"
            ) from None
    if kind.startswith("text/") or kind in {"application/xml", "application/javascript"}:
        try:
            return {"text": data.decode(charset)}
        except (UnicodeDecodeError, LookupError):
            return {"base64": base64.b64encode(data).decode(), "content_type": kind}
    return {"base64": base64.b64encode(data).decode(), "content_type": kind}
