"""If these fail, the rooms do not fit together, though each may be right alone."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from bend import Final, TerminalError, Worker, component
from tests.integration.one_process import Road, one_process
from tests.kit.certificates import TestAuthority
from tests.kit.loops import eventually, in_loop

DOCUMENT = """
name: words
input:
  type: object
  properties: {text: {type: string}, shout: {type: boolean, default: false}}
  required: [text]
tasks:
  - id: split
    type: text.split
    text: "{{input.text}}"
  - id: upper
    type: text.upper
    words: "{{split.words}}"
    condition: input.shout
  - id: report
    type: text.report
    count: "{{split.count}}"
    state: "{{upper.status}}"
"""


@component("text.split", version="1.0.0")
async def split(text: str) -> AsyncIterator[object]:
    words = text.split()
    for word in words:
        yield {"word": word}
    yield Final({"words": words, "count": len(words)})


@component("text.upper", version="1.0.0")
def upper(words: list[str]) -> list[str]:
    if "boom" in words:
        raise TerminalError("NO_BOOM", "not that word")
    return [word.upper() for word in words]


@component("text.report", version="1.0.0")
def report(count: int, state: str) -> str:
    return f"{count} words, upper {state}"


@contextlib.asynccontextmanager
async def working(road: Road) -> AsyncIterator[None]:
    worker = Worker([split, upper, report], credit=64, **road.worker_place())
    running = asyncio.create_task(worker.serve())
    try:
        yield
    finally:
        worker.stop()
        await running


@in_loop
async def test_a_document_becomes_results_through_all_rooms(authority: TestAuthority) -> None:
    async with one_process(authority) as road, working(road), road.client() as client:

        async def registered() -> bool:
            return len(await client.list_components()) == 3

        await eventually(registered)
        await client.create_workflow(DOCUMENT)
        done = await client.run("words", {"text": "a b c"})
        assert (done.status, done.output) == ("COMPLETED", {"report": "3 words, upper skipped"})
        done = await client.run("words", {"text": "x y", "shout": True})
        outputs = {task.task: task.output for task in done.tasks}
        assert outputs["upper"] == ["X", "Y"]
        failed = await client.run("words", {"text": "boom", "shout": True})
        assert failed.status == "FAILED"
        assert failed.error.reason == "NO_BOOM"


@in_loop
async def test_a_watch_shows_partial_outputs_and_ends(authority: TestAuthority) -> None:
    async with one_process(authority) as road, working(road), road.client() as client:

        async def registered() -> bool:
            return len(await client.list_components()) == 3

        await eventually(registered)
        await client.create_workflow(DOCUMENT)
        started = await client.start("words", {"text": "p q r"})
        seen = [event async for event in client.watch(started.execution_id)]
        partial = [event.data for event in seen if event.type == "partial"]
        assert partial == [{"word": "p"}, {"word": "q"}, {"word": "r"}]
        assert [event.terminal for event in seen][-1] is True
        assert seen[-1].status == "COMPLETED"


@in_loop
async def test_many_starts_end_each_once(authority: TestAuthority) -> None:
    async with one_process(authority) as road, working(road), road.client() as client:

        async def registered() -> bool:
            return len(await client.list_components()) == 3

        await eventually(registered)
        await client.create_workflow(DOCUMENT)
        started = await client.start_many([("words", {"text": f"w{n}"}) for n in range(100)])
        ids = [entry.execution_id for entry in started]
        assert len(set(ids)) == 100
        ended = [entry async for entry in client.watch_many(ids)]
        assert sorted(entry.execution_id for entry in ended) == sorted(ids)
        assert {entry.status for entry in ended} == {"COMPLETED"}
