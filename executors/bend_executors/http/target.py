"""URLs: taken apart once, in the form that is checked, dialled and sent."""

from typing import NamedTuple
from urllib.parse import quote, quote_plus, unquote, urljoin, urlsplit

from bend import TerminalError
from bend_executors.reach import host_name

URL_CHARS_MAX = 32 * 1024
PORTS = {"http": 80, "https": 443}
KEPT = "/%:@!$&'()*+,;=~-._[]?"

Query = dict[str, str | int | float | bool]


class Target(NamedTuple):
    """Where a request goes. `path` has the query and is ASCII; `userinfo` is never shown."""

    scheme: str
    host: str
    port: int
    path: str
    userinfo: str = ""

    @property
    def origin(self) -> tuple[str, str, int]:
        """What a connection belongs to."""
        return self.scheme, self.host, self.port

    @property
    def authority(self) -> str:
        """What the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def place(self) -> str:
        """`host:port`, the name of its circuit."""
        return f"{self.host}:{self.port}"

    @property
    def shown(self) -> str:
        """The URL as errors show it: user, password and query may be secrets."""
        return f"{self.scheme}://{self.authority}{self.path.partition('?')[0]}"[:500]


def invalid(text: str) -> TerminalError:
    """Return the error of an input `url` that is none."""
    return TerminalError("INVALID_INPUT", f"url: {text}", details={"field": "url"})


def parse(url: str, query: Query | None = None) -> Target:
    """Take a URL apart; spaces and letters beyond ASCII in path and query are encoded.

    Raises TerminalError: INVALID_INPUT for what is no http(s) URL, or has control characters;
    ADDRESS_REFUSED for odd notations of addresses.
    """
    if len(url) > URL_CHARS_MAX:
        raise invalid(f"has more than {URL_CHARS_MAX} characters")
    if any(char < " " or char == "\x7f" for char in url):
        raise invalid("has control characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise invalid(str(error)) from None
    if parts.scheme not in PORTS:
        raise invalid(f"{shown(url)}: http:// or https:// is wanted")
    userinfo, _, place = parts.netloc.rpartition("@")
    if not place or "\\" in url.partition("?")[0] or " " in place or "@" in userinfo:
        raise invalid(f"{shown(url)}: the host cannot be told")
    host = place if place.endswith("]") else (place.rpartition(":")[0] if port else place)
    host = host.removesuffix(":")
    if not host or port == 0:
        raise invalid(f"{shown(url)}: the host cannot be told")
    path = quote(parts.path or "/", safe=KEPT)
    asked = quote(parts.query, safe=KEPT)
    if query:
        more = "&".join(f"{quote_plus(k)}={quote_plus(value_text(v))}" for k, v in query.items())
        asked = f"{asked}&{more}" if asked else more
    if asked:
        path = f"{path}?{asked}"
    return Target(parts.scheme, host_name(host), port or PORTS[parts.scheme], path, userinfo)


def value_text(value: str | int | float | bool) -> str:
    """Return a query's value as text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def redirected(target: Target, location: str) -> Target:
    """Return where a redirect leads. Raises TerminalError REDIRECT_REFUSED.

    A location with user and password, or from https to http, is refused: the one hides a host,
    the other sends in clear what was meant to be sealed.
    """
    here = f"{target.scheme}://{target.authority}{target.path}"
    try:
        # A header's bytes beyond ASCII came as Latin-1; browsers read them as UTF-8.
        text = location.encode("latin-1").decode("utf-8", "replace")
        found = parse(urljoin(here, text))
    except (ValueError, TerminalError) as error:
        if isinstance(error, TerminalError) and error.reason == "ADDRESS_REFUSED":
            raise
        raise TerminalError(
            "REDIRECT_REFUSED", f"{target.shown} redirects to what is no URL"
        ) from None
    if found.userinfo:
        raise TerminalError("REDIRECT_REFUSED", f"{target.shown} redirects to a URL with a user")
    if target.scheme == "https" and found.scheme != "https":
        raise TerminalError("REDIRECT_REFUSED", f"{target.shown} redirects to plain http")
    return found


def credentials(userinfo: str) -> tuple[str, str]:
    """Return (user, password) of a URL's userinfo."""
    user, _, password = userinfo.partition(":")
    return unquote(user), unquote(password)


def shown(url: str) -> str:
    """Return a text that should be a URL as errors show it."""
    place = url.partition("?")[0].partition("#")[0]
    scheme, separator, rest = place.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"[:500]
