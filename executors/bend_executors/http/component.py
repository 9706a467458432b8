"""The component: one pooled client, every connection through the guard."""

import re
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal

from bend import Context, RetryableError, TerminalError, component
from bend_executors.http import bodies

if TYPE_CHECKING:
    import httpx


Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]

BODY_BYTES_MAX = 50 * 1024 * 1024
SNIPPET_CHARS = 1000
REDIRECTS_MAX = 5
CONNECTIONS_MAX = 256
RETRYABLE_CODES = frozenset({408, 429})
DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(ms|s|m)?")
UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0}
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class HttpComponent:
    """Holds the pooled client; httpx is loaded with the first task, not before."""

    def __init__(self, allow: str = "") -> None:
        self._allow = allow
        self._client: httpx.AsyncClient | None = None

    def _opened(self) -> "httpx.AsyncClient":
        if self._client is None:
            # Loading httpx costs 15 MB and 0.1 s, which an idle mesh should not pay.
            from bend_executors.http.client import open_client
            from bend_executors.http.guard import Allowance

            self._client = open_client(
                Allowance.from_text(self._allow), CONNECTIONS_MAX, REDIRECTS_MAX
            )
        return self._client

    @component("http", version="1.0.0")
    async def request(
        self,
        context: Context,
        url: str,
        method: Method = "GET",
        headers: dict[str, str] | None = None,
        query: dict[str, str | int | float | bool] | None = None,
        body: Any = None,
        timeout_connect: float | str = 10.0,
    ) -> Any:
        """Call a URL and answer its parsed body.

        JSON is parsed; other text becomes `{"text"}`, anything else `{"base64", "content_type"}`.
        A code outside 2xx fails the task with the reason `HTTP_<code>`; 408, 429 and 5xx are tried
        again, honouring Retry-After. Methods that change something carry an `Idempotency-Key`
        that is the same in every attempt. Addresses outside the public internet are refused
        (ADDRESS_REFUSED) unless the operator opened them.
        """
        import httpx

        client = self._opened()
        sent = dict(headers or {})
        names = {name.lower() for name in sent}
        content = None
        if body is not None:
            content, kind = bodies.encode(body)
            if len(content) > BODY_BYTES_MAX:
                raise TerminalError("REQUEST_TOO_LARGE", f"the body has {len(content)} bytes")
            if "content-type" not in names:
                sent["content-type"] = kind
        if method not in SAFE_METHODS and "idempotency-key" not in names:
            sent["idempotency-key"] = context.idempotency_key
        connect_s = min(seconds(timeout_connect), context.timeout_s)
        timeout = httpx.Timeout(context.timeout_s, connect=connect_s)
        place = shown(url)
        try:
            async with client.stream(
                method, url, headers=sent, params=query, content=content, timeout=timeout
            ) as response:
                data = await read(response)
        except httpx.TimeoutException as error:
            phase = type(error).__name__.removesuffix("Timeout").lower()
            raise RetryableError("HTTP_TIMEOUT", f"{method} {place}: {phase} timed out") from None
        except httpx.TooManyRedirects:
            raise TerminalError(
                "TOO_MANY_REDIRECTS", f"{place}: more than {REDIRECTS_MAX} redirects"
            ) from None
        except (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.LocalProtocolError) as error:
            raise TerminalError("INVALID_INPUT", f"{place}: {error}") from None
        except httpx.TransportError as error:
            text = str(error) or type(error).__name__
            raise RetryableError("HTTP_CONNECTION", f"{method} {place}: {text}") from None
        return answer(response, data)


def shown(url: str) -> str:
    """Return a URL as errors show it: user, password and query may be secrets."""
    place = url.partition("?")[0].partition("#")[0]
    scheme, separator, rest = place.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"[:500]


def seconds(duration: float | str) -> float:
    """Return seconds of a number, or of a text such as `500ms`, `5s`, `1m`.

    Raises TerminalError INVALID_INPUT.
    """
    if isinstance(duration, str):
        match = DURATION.fullmatch(duration.strip())
        if match is None:
            raise TerminalError("INVALID_INPUT", f"timeout_connect: {duration!r} is no duration")
        duration = float(match[1]) * UNITS_S[match[2] or "s"]
    if not 0 < duration < float("inf"):
        raise TerminalError("INVALID_INPUT", "timeout_connect must be more than 0")
    return duration


async def read(response: "httpx.Response") -> bytes:
    """Read a body up to the limit. Raises TerminalError RESPONSE_TOO_LARGE."""
    parts: list[bytes] = []
    size = 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > BODY_BYTES_MAX:
            raise TerminalError(
                "RESPONSE_TOO_LARGE", f"the body has more than {BODY_BYTES_MAX} bytes"
            )
        parts.append(part)
    return b"".join(parts)


def answer(response: "httpx.Response", data: bytes) -> Any:
    """Return the parsed body of a 2xx response; raise for every other."""
    code = response.status_code
    kind = response.headers.get("content-type", "")
    if response.is_success:
        return bodies.decode(data, kind)
    message = f"{response.request.method} {shown(str(response.request.url))} answered {code}"
    snippet = data[: SNIPPET_CHARS * 4].decode("utf-8", "replace")[:SNIPPET_CHARS]
    details = {"status_code": code, "body": snippet}
    if code >= 500 or code in RETRYABLE_CODES:
        wait = retry_after_s(response.headers.get("retry-after", ""))
        raise RetryableError(f"HTTP_{code}", message, retry_after=wait, details=details)
    raise TerminalError(f"HTTP_{code}", message, details=details)


def retry_after_s(header: str) -> float | None:
    """Return the seconds that a Retry-After header asks for; None without a sound one."""
    if not header:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        try:
            return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
        except (ValueError, TypeError):
            return None
