"""Secrets cut over chunks. If these fail, a watcher reads one piece by piece."""

import json
from typing import Any

import pytest

from bend_server.executor.chunk_scrubbing import HELD_CHUNKS_MAX, Chunk, ChunkScrubber
from bend_server.executor.secrets import scrub, traces
from tests.kit.seeds import chance_of

SECRET = "hunter2hunter2"
OTHER = "hunh"


class Stream:
    """What a watcher of one hand-over sees."""

    def __init__(self, *secrets: str) -> None:
        self.traces = traces(list(secrets or (SECRET,)))
        self.scrubber = ChunkScrubber(self.traces)
        self.seen: list[Chunk] = []
        self._sent = 0

    def send(self, value: Any, kind: int = 1) -> int:
        """Send a chunk; return how many came out."""
        data = scrub(json.dumps(value).encode(), self.traces)
        out = self.scrubber.feed(Chunk(self._sent, kind, data, 7))
        self._sent += 1
        self.seen += out
        return len(out)

    def end(self) -> list[Any]:
        self.seen += self.scrubber.flush()
        assert [one.number for one in self.seen] == list(range(self._sent))
        return [json.loads(one.data) for one in self.seen]


@pytest.mark.parametrize("at", range(1, len(SECRET)))
def test_a_secret_cut_in_two_is_masked(at: int) -> None:
    stream = Stream()
    stream.send("it is " + SECRET[:at])
    stream.send(SECRET[at:] + ", it is")
    text = "".join(stream.end())
    assert SECRET not in text
    assert text == f"it is {SECRET[:at] if at < 4 else ''}***, it is"


@pytest.mark.parametrize("width", range(1, 8))
def test_a_secret_sent_in_pieces_is_masked(width: int) -> None:
    """As a model repeats it: token by token."""
    whole = f"the key is {SECRET} and {SECRET}{SECRET}; hunter and hunt are words"
    stream = Stream()
    for place in range(0, len(whole), width):
        stream.send({"delta": {"text": whole[place : place + width]}})
    text = "".join(one["delta"]["text"] for one in stream.end())
    assert SECRET not in text
    assert SECRET[:5] not in text.replace("hunter and", "")
    assert text.endswith("; hunter and hunt are words")
    # Two that touch may share a mask.
    assert text.count("***") in (2, 3)


def test_what_only_looks_like_a_beginning_comes_whole_and_in_order() -> None:
    stream = Stream()
    assert stream.send("on the hunt") == 0
    assert stream.send(" for words") == 2
    assert stream.send("hun") == 1
    assert stream.send(["hunter2h", 1 << 80, None]) == 0
    assert stream.end() == ["on the hunt", " for words", "hun", ["***", 1 << 80, None]]


def test_places_and_kinds_are_streams_of_their_own() -> None:
    stream = Stream()
    stream.send({"level": "info", "message": "hunter2"}, kind=2)
    stream.send("hunter2")
    stream.send({"level": "hunter2", "message": "hunter2!"}, kind=2)
    stream.send("hunter2")
    text = [str(one) for one in stream.end()]
    assert text[0] == "{'level': 'info', 'message': '***'}"
    assert text[2] == "{'level': '***', 'message': '!'}"
    assert text[1] + text[3] == "***"


def test_several_secrets_that_begin_alike_are_all_found() -> None:
    stream = Stream(SECRET, OTHER, "unt")
    for character in f"a {OTHER} b {SECRET} c":
        stream.send(character)
    text = "".join(stream.end())
    assert SECRET not in text
    assert OTHER not in text
    assert (text[0], text[-1]) == ("a", "c")


def test_what_is_held_is_bounded_and_masked_when_it_is_too_much() -> None:
    stream = Stream()
    stream.send({"a": SECRET[:-1]})
    most = 0
    for number in range(3 * HELD_CHUNKS_MAX):
        stream.send({"b": number})
        most = max(most, len(stream.scrubber._queue))
    assert most <= HELD_CHUNKS_MAX
    assert stream.end()[0] == {"a": "***"}
    many = Stream()
    for number in range(5000):
        many.send({f"f{number}": "hun"})
    assert len(many.scrubber._open) <= 256
    assert len(many.end()) == 5000


def test_random_cuts_never_show_a_secret() -> None:
    seed, rng = chance_of("random cuts")
    for _ in range(200):
        secrets = ["".join(rng.choices("ab", k=rng.randint(4, 9))) for _ in range(2)]
        whole = "".join(rng.choices("abc", k=60)) + rng.choice(secrets)
        stream = Stream(*secrets)
        place = 0
        while place < len(whole):
            width = rng.randint(1, 5)
            stream.send(whole[place : place + width])
            place += width
        text = "".join(stream.end())
        assert not [one for one in secrets if one in text], (seed, secrets, whole, text)
