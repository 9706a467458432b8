"""If these fail, a component that streams fills the worker's memory, or waits for ever."""

import asyncio
import threading

import pytest

from bend.chunks import BUFFER_BYTES, BUFFER_MAX, ChunkBuffer, PartialChunk
from tests.kit.loops import in_loop


def chunk(number: int, data: bytes = b"x") -> PartialChunk:
    return PartialChunk(run_id=1, number=number, kind=1, data=data, time_us=0)


def buffer() -> ChunkBuffer:
    return ChunkBuffer(threading.Condition(), asyncio.get_running_loop())


def fill(buffer: ChunkBuffer) -> None:
    for number in range(BUFFER_MAX - 1):
        assert buffer.put(chunk(number))
    assert not buffer.put(chunk(BUFFER_MAX - 1))


@in_loop
async def test_it_is_full_by_number_and_no_chunk_is_refused() -> None:
    chunks = buffer()
    fill(chunks)
    assert not chunks.put(chunk(BUFFER_MAX))
    assert [one.number for one in chunks.take()] == list(range(BUFFER_MAX + 1))
    assert chunks.put(chunk(0))


@in_loop
async def test_it_is_full_by_bytes_and_empty_again_after_they_were_taken() -> None:
    chunks = buffer()
    half = b"x" * (BUFFER_BYTES // 2)
    assert chunks.put(chunk(0, half))
    assert not chunks.put(chunk(1, half))
    chunks.take()
    assert chunks.put(chunk(2, half))


@pytest.mark.parametrize("way", ["take", "end"])
@in_loop
async def test_who_waits_for_room_goes_on_when_there_is_some_or_nothing_is_sent(way: str) -> None:
    chunks = buffer()
    fill(chunks)
    on_loop = asyncio.create_task(chunks.room())
    in_thread = asyncio.create_task(asyncio.to_thread(chunks.block_for_room))
    # One turn of the loop lets it wait; whether the thread waits already makes no difference.
    await asyncio.sleep(0)
    assert not on_loop.done()
    getattr(chunks, way)()
    await asyncio.gather(on_loop, in_thread)


@in_loop
async def test_after_the_end_chunks_are_dropped_and_nobody_waits() -> None:
    chunks = buffer()
    fill(chunks)
    chunks.take()
    chunks.end()
    assert all(chunks.put(chunk(number)) for number in range(BUFFER_MAX + 1))
    assert chunks.waiting == []
    await chunks.room()
    chunks.block_for_room()


@in_loop
async def test_a_sender_is_woken_by_a_chunk() -> None:
    condition = threading.Condition()
    chunks = ChunkBuffer(condition, asyncio.get_running_loop())

    def send() -> list[PartialChunk]:
        with condition:
            assert condition.wait_for(lambda: chunks.waiting, timeout=30)
            return chunks.take()

    sender = asyncio.create_task(asyncio.to_thread(send))
    await asyncio.sleep(0)
    chunks.put(chunk(7))
    assert [one.number for one in await sender] == [7]
