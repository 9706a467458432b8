"""Keeping secrets out of a stream of chunks, also when one is cut over several.

A model that repeats a secret sends it a few characters a chunk. Each text of a chunk is taken as
the continuation of the text at the same place in the chunk before. A chunk that ends with the
beginning of a secret is held until the next ones show how it goes on; what a watcher may see of a
secret is at most its first three characters.
"""

import json
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

from bend_server.executor.secrets import MASK, Traces

# A shorter beginning is not held: it would delay every second chunk.
HELD_CHARS_MIN = 4
# What is held at most; then the beginning is taken for the secret, and masked.
HELD_CHUNKS_MAX = 64
HELD_BYTES_MAX = 256 * 1024
PLACES_MAX = 256
DEPTH_MAX = 64

Place = tuple[object, ...]


class Chunk(NamedTuple):
    """A chunk as a service sent it; `data` is JSON."""

    number: int
    kind: int
    data: bytes
    time_us: int


class _Entry:
    """A chunk that may still change."""

    __slots__ = ("changed", "chunk", "document", "leaves", "sent")

    def __init__(self, chunk: Chunk, document: Any) -> None:
        self.chunk = chunk
        # In a list, so that a chunk that is one text has a place to be changed at.
        self.document = [document]
        self.leaves: list[_Leaf] = []
        self.changed = False
        self.sent = False

    def finished(self) -> Chunk:
        self.sent = True
        if not self.changed:
            return self.chunk
        for leaf in self.leaves:
            if leaf.cuts:
                leaf.holder[leaf.key] = leaf.masked()
        # Not orjson: it would turn large integers into floats.
        text = json.dumps(self.document[0], ensure_ascii=False, separators=(",", ":"))
        return self.chunk._replace(data=text.encode("utf-8", "surrogatepass"))


class _Leaf:
    """One text in a chunk, and what of it has to go: (begin, end, whether a mask stands there)."""

    __slots__ = ("cuts", "entry", "holder", "key", "text")

    def __init__(self, entry: _Entry, holder: Any, key: Any, text: str) -> None:
        self.entry = entry
        self.holder = holder
        self.key = key
        self.text = text
        self.cuts: list[tuple[int, int, bool]] = []

    def masked(self) -> str:
        out: list[str] = []
        place = 0
        for begin, end, mask in sorted(self.cuts):
            if begin >= place:
                out.append(self.text[place:begin])
                if mask:
                    out.append(MASK.decode())
            place = max(place, end)
        return "".join(out) + self.text[place:]


Piece = tuple[_Leaf, int]
"""A text, from a position of it to its end."""


class ChunkScrubber:
    """The chunks of one hand-over.

    Args:
        secrets: what may not leave.
    """

    def __init__(self, secrets: Traces) -> None:
        self._secrets = secrets.text
        self._borders = [_border(secret) for secret in secrets.text]
        self._queue: deque[_Entry] = deque()
        self._bytes = 0
        # Where a text may go on: the pieces that are the beginning of a secret, not yet refuted.
        self._open: dict[Place, list[Piece]] = {}
        self._held: set[Place] = set()

    def feed(self, chunk: Chunk) -> list[Chunk]:
        """Take a chunk in which no whole secret is; return those that may go, in order."""
        entry = _Entry(chunk, json.loads(chunk.data))
        for place, holder, key, text in _texts(entry.document, (chunk.kind,)):
            leaf = _Leaf(entry, holder, key, text)
            entry.leaves.append(leaf)
            self._continue(place, leaf)
        self._queue.append(entry)
        self._bytes += len(chunk.data)
        if len(self._open) > PLACES_MAX:
            self._give_up()
        return self._released()

    def flush(self) -> list[Chunk]:
        """The hand-over is over: return what was held; a beginning of a secret is masked."""
        self._give_up()
        return self._released()

    def _continue(self, place: Place, leaf: _Leaf) -> None:
        pieces = [*self._open.pop(place, []), (leaf, 0)]
        self._held.discard(place)
        text = "".join(leaf.text[begin:] for leaf, begin in pieces)
        for secret in self._secrets:
            found = text.find(secret)
            while found >= 0:
                _cut(pieces, found, found + len(secret))
                found = text.find(secret, found + len(secret))
        length, hold = self._beginning(text)
        if length:
            self._open[place] = _last(pieces, length)
            if hold:
                self._held.add(place)

    def _beginning(self, text: str) -> tuple[int, bool]:
        """Return the longest end of a text that begins a secret, and whether it must be held."""
        longest, hold = 0, False
        for secret, border in zip(self._secrets, self._borders, strict=True):
            length = 0
            for character in text[-(len(secret) - 1) :]:
                while length and secret[length] != character:
                    length = border[length - 1]
                if secret[length] == character:
                    length += 1
            longest = max(longest, length)
            hold = hold or length >= min(HELD_CHARS_MIN, len(secret) // 2)
        return longest, hold

    def _released(self) -> list[Chunk]:
        if len(self._queue) > HELD_CHUNKS_MAX or self._bytes > HELD_BYTES_MAX:
            self._give_up()
        waiting = {id(leaf.entry) for place in self._held for leaf, _ in self._open[place]}
        free: list[Chunk] = []
        while self._queue and id(self._queue[0]) not in waiting:
            entry = self._queue.popleft()
            self._bytes -= len(entry.chunk.data)
            free.append(entry.finished())
        return free

    def _give_up(self) -> None:
        """Mask what is held, and remember nothing."""
        for place in self._held:
            pieces = self._open[place]
            _cut(pieces, 0, sum(len(leaf.text) - begin for leaf, begin in pieces))
        self._held.clear()
        self._open.clear()


def _border(secret: str) -> list[int]:
    """Return for each beginning how long its longest own beginning is that also ends it.

    Source: Knuth, Morris, Pratt, Fast Pattern Matching in Strings, 1977.
    """
    border = [0] * len(secret)
    length = 0
    for place in range(1, len(secret)):
        while length and secret[place] != secret[length]:
            length = border[length - 1]
        if secret[place] == secret[length]:
            length += 1
        border[place] = length
    return border


def _texts(document: list[Any], root: Place) -> Iterator[tuple[Place, Any, Any, str]]:
    """Return each text with its place, and where it can be changed."""
    left: list[tuple[Place, Any, Any]] = [(root, document, 0)]
    while left:
        place, holder, key = left.pop()
        value = holder[key]
        if isinstance(value, str):
            if value:
                yield place, holder, key, value
        elif len(place) < DEPTH_MAX and isinstance(value, dict):
            left.extend(((*place, name), value, name) for name in reversed(value))
        elif len(place) < DEPTH_MAX and isinstance(value, list):
            left.extend(((*place, n), value, n) for n in reversed(range(len(value))))


def _cut(pieces: list[Piece], begin: int, end: int) -> None:
    """Mark characters of the joined pieces as secret; the mask stands in the first that can."""
    place, masked = 0, False
    for leaf, start in pieces:
        length = len(leaf.text) - start
        first, last = max(begin, place), min(end, place + length)
        if first < last and not leaf.entry.sent:
            leaf.cuts.append((start + first - place, start + last - place, not masked))
            leaf.entry.changed = masked = True
        place += length


def _last(pieces: list[Piece], length: int) -> list[Piece]:
    """Return the pieces of the last characters."""
    found: list[Piece] = []
    for leaf, begin in reversed(pieces):
        taken = min(length, len(leaf.text) - begin)
        found.append((leaf, len(leaf.text) - taken))
        length -= taken
        if not length:
            break
    return found[::-1]
