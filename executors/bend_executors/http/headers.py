"""Headers of requests: checked, so that no value becomes a second request."""

import base64
import re
from typing import NamedTuple

from bend import TerminalError
from bend_executors.http.target import Target, credentials

USER_AGENT = "bend-http/1.1"
HEADER_BYTES_MAX = 64 * 1024
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# The connection's own business: who sets them could hide a request inside another.
OURS = frozenset(
    [
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "upgrade",
        "te",
        "trailer",
        "expect",
        "proxy-connection",
        "proxy-authorization",
        "http2-settings",
    ]
)
# All that a redirect to another host still gets; a token may hide under any other name.
NEUTRAL = frozenset(["accept", "accept-language", "content-type", "idempotency-key", "user-agent"])
OF_A_BODY = frozenset(("content-type", "content-encoding", "content-language"))


class Request(NamedTuple):
    """A request as it is sent: names of headers are lower case, values checked."""

    method: str
    target: Target
    headers: dict[str, str]
    body: bytes | None

    def head(self) -> bytes:
        """Return request line and headers as HTTP/1.1 sends them."""
        lines = [f"{self.method} {self.target.path} HTTP/1.1\r\nhost: {self.target.authority}\r\n"]
        lines += [f"{name}: {value}\r\n" for name, value in self.headers.items()]
        if self.body is not None:
            lines.append(f"content-length: {len(self.body)}\r\n")
        elif self.method in ("POST", "PUT", "PATCH"):
            lines.append("content-length: 0\r\n")
        lines.append("\r\n")
        return "".join(lines).encode()

    def follow(self, code: int, target: Target) -> "Request":
        """Return the request that a redirect asks for (RFC 9110, 15.4).

        Another scheme, host or port gets none of the headers that may identify the caller.
        """
        method, body, headers = self.method, self.body, self.headers
        if (code == 303 and method != "HEAD") or (code in (301, 302) and method == "POST"):
            method, body = "GET", None
            headers = {k: v for k, v in headers.items() if k not in OF_A_BODY}
        if target.origin != self.target.origin:
            headers = {k: v for k, v in headers.items() if k in NEUTRAL}
            headers["accept-encoding"] = "gzip, deflate"
        return Request(method, target, headers, body)


def checked(given: dict[str, str] | None, target: Target) -> dict[str, str]:
    """Return headers with names in lower case, and what every request carries.

    Raises TerminalError INVALID_INPUT naming the header; its value is never shown.
    """
    found = {"user-agent": USER_AGENT, "accept": "*/*", "accept-encoding": "gzip, deflate"}
    if target.userinfo:
        user, password = credentials(target.userinfo)
        pair = base64.b64encode(f"{user}:{password}".encode()).decode()
        found["authorization"] = f"Basic {pair}"
    if not given:
        return found
    size = 0
    for name, value in given.items():
        low = name.lower()
        if not TOKEN.fullmatch(name):
            raise refused(name, "the name has characters that no header may have")
        if low in OURS:
            raise refused(name, "the component sets it itself")
        if CONTROL.search(value):
            raise refused(name, "the value has control characters")
        size += len(name) + len(value)
        found[low] = value.strip(" \t")
    if size > HEADER_BYTES_MAX:
        raise TerminalError("INVALID_INPUT", f"headers: more than {HEADER_BYTES_MAX} characters")
    return found


def refused(name: str, why: str) -> TerminalError:
    """Return the error of a header that is not sent."""
    field = f"headers.{name[:100]!r}"
    return TerminalError("INVALID_INPUT", f"{field}: {why}", details={"field": field})
