"""Bodies of requests and responses: JSON where it is JSON, text where it is text."""

import base64
import codecs
import re
import zlib
from email.message import Message
from functools import lru_cache
from typing import Any

from bend import TerminalError, payloads

GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
# Each one costs a copy of what follows it.
MEMBERS_MAX = 64
CODINGS = frozenset(("gzip", "x-gzip", "deflate"))
CHARSET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,39}")
# Python's names of what is a charset. It knows more: some unpack what they decode, and one takes
# minutes for a few hundred kilobytes (punycode), in which no other task would get on.
CHARSETS = re.compile(
    r"ascii|utf-(8|8-sig|16|16-[bl]e|32|32-[bl]e)|iso8859-\d+|cp\d+|koi8-[rtu]|gb(k|2312|18030)"
    r"|big5(hkscs)?|shift_jis(x0213|_2004)?|euc_\w+|iso2022_\w+|johab|hz|mac-\w+|tis-620|kz1048"
    r"|ptcp154|hp-roman8"
)


def encode(body: Any) -> tuple[bytes, str]:
    """Return (bytes, content type) of a request's body: text as it is, the rest as JSON."""
    if isinstance(body, str):
        return body.encode(), "text/plain; charset=utf-8"
    return payloads.dumps(body), "application/json"


@lru_cache(maxsize=256)
def media_type(header: str) -> tuple[str, str]:
    """Return (type in lower case, charset or utf-8) of a Content-Type header."""
    message = Message()
    message["content-type"] = header or "application/octet-stream"
    return message.get_content_type(), message.get_content_charset() or "utf-8"


@lru_cache(maxsize=256)
def known_charset(name: str) -> str | None:
    """Return Python's name of a charset that a server names, None when it is none."""
    if not CHARSET_NAME.fullmatch(name):
        return None
    try:
        found = codecs.lookup(name).name
    except LookupError:
        return None
    return found if CHARSETS.fullmatch(found) else None


def is_json(kind: str) -> bool:
    """Tell whether a media type is JSON."""
    return kind == "application/json" or kind.endswith("+json")


def is_text(kind: str) -> bool:
    """Tell whether a media type is text that is no JSON."""
    return kind.startswith("text/") or kind in {"application/xml", "application/javascript"}


def decode(data: bytes, header: str) -> Any:
    """Return a response's body: parsed JSON, or {"text"}, or {"base64", "content_type"}.

    An empty body is None. Raises TerminalError INVALID_RESPONSE when a JSON body does not parse.
    """
    if not data:
        return None
    kind, charset = media_type(header)
    if is_json(kind):
        return parsed(data, "the JSON body")
    known = known_charset(charset) if is_text(kind) else None
    if known is not None:
        try:
            return {"text": data.decode(known)}
        except UnicodeError:
            pass
    return {"base64": base64.b64encode(data).decode(), "content_type": kind}


def parsed(data: bytes, what: str) -> Any:
    """Parse JSON that a server sent. Raises TerminalError INVALID_RESPONSE."""
    try:
        return payloads.loads(data)
    except ValueError as error:
        raise TerminalError("INVALID_RESPONSE", f"{what} does not parse: {error}") from None


class Unpacker:
    """Undoes Content-Encoding piece by piece, never to more than was asked for."""

    def __init__(self, coding: str) -> None:
        """Take gzip or deflate. Raises TerminalError INVALID_RESPONSE for any other."""
        if coding not in CODINGS:
            raise TerminalError(
                "INVALID_RESPONSE", f"the body has the encoding {coding[:50]!r}, which nobody asked"
            )
        self._coding = coding
        self._inner = zlib.decompressobj(GZIP_OR_ZLIB)
        self._first = True
        self._members = 1

    def feed(self, data: bytes, room: int) -> bytes:
        """Return what the bytes unpack to, at most `room` + 1 bytes.

        Raises TerminalError INVALID_RESPONSE.
        """
        try:
            if self._first and self._coding == "deflate" and data and data[0] & 0x0F != 8:
                # Some servers send deflate without zlib's header.
                self._inner = zlib.decompressobj(-zlib.MAX_WBITS)
            self._first = False
            found = self._inner.decompress(data, room + 1)
            while self._inner.eof and self._inner.unused_data and len(found) <= room:
                rest = self._inner.unused_data
                self._members += 1
                if self._members > MEMBERS_MAX:
                    raise TerminalError(
                        "INVALID_RESPONSE", f"the body has more than {MEMBERS_MAX} gzip members"
                    )
                self._inner = zlib.decompressobj(GZIP_OR_ZLIB)
                found += self._inner.decompress(rest, room + 1 - len(found))
        except zlib.error as error:
            raise TerminalError("INVALID_RESPONSE", f"the body does not unpack: {error}") from None
        return found

    def end(self) -> None:
        """Check that the body was whole. Raises TerminalError INVALID_RESPONSE."""
        if not self._first and not self._inner.eof:
            raise TerminalError("INVALID_RESPONSE", "the compressed body is cut off")
