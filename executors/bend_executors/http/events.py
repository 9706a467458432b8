"""Bodies that come piece by piece: server-sent events, lines of JSON, and plain text."""

import codecs
from typing import Any, Protocol

from bend import TerminalError, payloads
from bend_executors.http import bodies

EVENT_BYTES_MAX = 256 * 1024
PIECE_CHARS = 16 * 1024


class Pieces(Protocol):
    """Takes bytes, gives what became whole."""

    def feed(self, data: bytes) -> list[Any]:
        """Return the pieces that these bytes complete. Raises TerminalError."""
        ...

    def end(self) -> list[Any]:
        """Return what is left when the body ends. Raises TerminalError."""
        ...


def too_large() -> TerminalError:
    """Return the error of a piece that no partial output can carry."""
    return TerminalError(
        "RESPONSE_TOO_LARGE", f"one event or line has more than {EVENT_BYTES_MAX} bytes"
    )


class Events:
    """Server-sent events (text/event-stream, WHATWG HTML 9.2).

    An event is {"event", "data", "id"}: `data` is parsed when it is a JSON object or list, else it
    is text; `id` is there when the server gave one. An event that the end cuts off is dropped.
    """

    def __init__(self) -> None:
        self._lines = Splitter(cr=True)
        self._data: list[bytes] = []
        self._size = 0
        self._name = b""
        self._id: bytes | None = None
        self._first = True

    def feed(self, data: bytes) -> list[Any]:
        """Return the events that these bytes complete."""
        found: list[Any] = []
        for line in self._lines.feed(data):
            if self._first:
                self._first = False
                line = line.removeprefix(codecs.BOM_UTF8)  # noqa: PLW2901 - once, at the start
            if not line:
                if self._data:
                    found.append(self._event())
                self._data, self._size, self._name = [], 0, b""
                continue
            name, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if name == b"data":
                self._size += len(value) + 1
                if self._size > EVENT_BYTES_MAX:
                    raise too_large()
                self._data.append(value)
            elif name == b"event":
                self._name = value
            elif name == b"id" and b"\0" not in value:
                self._id = value
        return found

    def end(self) -> list[Any]:
        """Return nothing: the standard drops an event without its empty line."""
        return []

    def _event(self) -> dict[str, Any]:
        raw = b"\n".join(self._data)
        value: Any = None
        if raw[:1] in (b"{", b"["):
            try:
                value = payloads.loads(raw)
            except ValueError:
                value = None
        event: dict[str, Any] = {
            "event": self._name.decode("utf-8", "replace") or "message",
            "data": raw.decode("utf-8", "replace") if value is None else value,
        }
        if self._id is not None:
            event["id"] = self._id.decode("utf-8", "replace")
        return event


class Lines:
    """Lines of JSON (application/x-ndjson, application/jsonl, application/json-seq)."""

    def __init__(self) -> None:
        self._lines = Splitter(cr=False)

    def feed(self, data: bytes) -> list[Any]:
        """Return the values of the lines that these bytes complete."""
        return [
            bodies.parsed(line, "a line of JSON")
            for raw in self._lines.feed(data)
            if (line := raw.strip(b"\x1e \t\r"))
        ]

    def end(self) -> list[Any]:
        """Return the value of a last line without its end."""
        return self.feed(b"\n")


class Text:
    """Text as it comes, {"text"}; never more than 16 Ki characters a piece."""

    def __init__(self, charset: str) -> None:
        known = bodies.known_charset(charset) or "utf-8"
        self._decoder = codecs.getincrementaldecoder(known)("replace")

    def feed(self, data: bytes) -> list[Any]:
        """Return the text of these bytes. Raises TerminalError INVALID_RESPONSE."""
        return self._cut(self._decoded(data, end=False))

    def end(self) -> list[Any]:
        """Return what an unfinished letter becomes."""
        return self._cut(self._decoded(b"", end=True))

    def _decoded(self, data: bytes, *, end: bool) -> str:
        try:
            return self._decoder.decode(data, final=end)
        except UnicodeError as error:
            # Where nothing can stand for what is wrong, as for UTF-16 without its mark.
            raise TerminalError("INVALID_RESPONSE", f"the text does not decode: {error}") from None

    @staticmethod
    def _cut(text: str) -> list[Any]:
        return [{"text": text[at : at + PIECE_CHARS]} for at in range(0, len(text), PIECE_CHARS)]


class Splitter:
    """Splits bytes at line ends: LF, CR LF and, when asked, a lone CR."""

    def __init__(self, *, cr: bool) -> None:
        self._cr = cr
        self._rest = bytearray()
        self._after_cr = False

    def feed(self, data: bytes) -> list[bytes]:
        """Return the whole lines. Raises TerminalError RESPONSE_TOO_LARGE for an endless one."""
        if self._cr:
            if self._after_cr and data[:1] == b"\n":
                data = data[1:]
                self._after_cr = False
            if data:
                self._after_cr = data[-1:] == b"\r"
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = data.split(b"\n")
        lines[0] = bytes(self._rest) + lines[0] if len(lines) > 1 else lines[0]
        if len(lines) > 1:
            self._rest = bytearray(lines.pop())
        else:
            self._rest += lines.pop()
        if len(self._rest) > EVENT_BYTES_MAX or any(len(x) > EVENT_BYTES_MAX for x in lines):
            raise too_large()
        return lines


def pieces_of(header: str, *, stream: bool) -> Pieces | None:
    """Return how a body of this Content-Type is taken apart; None: it is taken whole."""
    kind, charset = bodies.media_type(header)
    if kind == "text/event-stream":
        return Events()
    if kind in {"application/x-ndjson", "application/jsonl", "application/json-seq"}:
        return Lines()
    if stream and bodies.is_text(kind):
        return Text(charset)
    return None
