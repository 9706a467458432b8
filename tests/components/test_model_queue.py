"""If these fail, models fill the memory, or tasks spoil each other's batches."""

import asyncio
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bend import RetryableError, TerminalError
from bend_executors.model import ModelComponent, Settings, batches, session, shelf
from bend_executors.model import component as model_component
from tests.components import onnx_files as onnx
from tests.kit.loops import eventually

SAME = onnx.same(onnx.FLOAT, ["N", 2])
# Gather refuses an index that the table has not, which only the run can tell.
LOOKUP = onnx.model(
    [onnx.node("Gather", ["t", "a"], "y")],
    [onnx.port("a", onnx.INT64, ["N"])],
    [onnx.port("y", onnx.FLOAT, ["N"])],
    [onnx.weights("t", onnx.FLOAT, [2], raw=b"\0\0\x80\x3f\0\0\0\x40")],
)
BODY = {"a": [1.0, 2.0]}


def heavy(megabytes: int) -> bytes:
    """Return a model whose weights take memory."""
    count = megabytes * 262_144
    return onnx.model(
        [onnx.node("Add", ["a", "w"], "y")],
        [onnx.port("a", onnx.FLOAT, ["N", 1])],
        [onnx.port("y", onnx.FLOAT, ["N", count])],
        [onnx.weights("w", onnx.FLOAT, [count], raw=b"\1" * 4 * count)],
    )


@contextmanager
def held(component: ModelComponent) -> Iterator[threading.Event]:
    """Keep the one thread that runs sessions, so that tasks gather until the event is set."""
    free = threading.Event()
    component._runs.submit(free.wait, 90.0)
    try:
        yield free
    finally:
        free.set()


def models(component: ModelComponent) -> dict[str, dict[str, Any]]:
    return {entry["model"]: entry for entry in component.stats()["models"]}


async def idle(component: ModelComponent) -> None:
    """Wait until the thread of the one model has found an empty queue."""
    (only,) = component._shelf._held.values()
    await eventually(lambda: not only.model._busy)


def test_tasks_gather_while_the_thread_is_busy(tmp_path: Path) -> None:
    """What came meanwhile runs together, `batch_max` at most."""
    onnx.placed(tmp_path, "m", SAME, config='{"batch_max": 8}')

    async def crowd() -> dict[str, Any]:
        component = ModelComponent(Settings(folder=tmp_path, runs=1))
        await component.infer("m", BODY)
        await idle(component)
        with held(component) as free:
            tasks = [asyncio.create_task(component.infer("m", BODY)) for _ in range(13)]
            await eventually(lambda: models(component)["m@1"]["waiting"] == 13)
            free.set()
            await asyncio.gather(*tasks)
        return models(component)["m@1"]

    seen = asyncio.run(crowd())
    assert seen["batches"] == {"1": 1, "5": 1, "8": 1}
    assert seen["tasks"] == seen["items"] == 14
    assert seen["queue_ms_max"] > 0
    assert seen["run_ms_max"] >= seen["run_ms_mean"] > 0


def test_a_cancelled_task_leaves_the_queue(tmp_path: Path) -> None:
    onnx.placed(tmp_path, "m", SAME)

    async def crowd() -> dict[str, Any]:
        component = ModelComponent(Settings(folder=tmp_path, runs=1))
        await component.infer("m", BODY)
        await idle(component)
        with held(component) as free:
            tasks = [asyncio.create_task(component.infer("m", BODY)) for _ in range(5)]
            await eventually(lambda: models(component)["m@1"]["waiting"] == 5)
            tasks[1].cancel()
            tasks[2].cancel()
            await eventually(lambda: models(component)["m@1"]["waiting"] == 3)
            free.set()
            await asyncio.gather(tasks[0], *tasks[3:])
        return models(component)["m@1"]

    seen = asyncio.run(crowd())
    assert seen["batches"] == {"1": 1, "3": 1}
    assert seen["users"] == seen["waiting"] == 0


def test_a_queue_that_is_full_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx.placed(tmp_path, "m", SAME)
    monkeypatch.setattr(batches, "QUEUE_MAX", 2)

    async def crowd() -> list[Any]:
        component = ModelComponent(Settings(folder=tmp_path))
        tasks = (component.infer("m", BODY) for _ in range(5))
        return await asyncio.gather(*tasks, return_exceptions=True)

    found = asyncio.run(crowd())
    refused = [entry for entry in found if isinstance(entry, RetryableError)]
    assert refused
    assert {entry.reason for entry in refused} == {"MODEL_BUSY"}
    assert found[0] == {"y": [1.0, 2.0]}


def test_an_input_that_breaks_the_run_fails_alone(tmp_path: Path) -> None:
    onnx.placed(tmp_path, "m", LOOKUP)

    async def crowd() -> list[Any]:
        component = ModelComponent(Settings(folder=tmp_path))
        tasks = (component.infer("m", {"a": at}) for at in (0, 7, 1))
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, wrong, last = asyncio.run(crowd())
    assert (first, last) == ({"y": 1.0}, {"y": 2.0})
    assert isinstance(wrong, TerminalError)
    assert wrong.reason == "INFERENCE_FAILED"


def test_the_model_not_used_for_longest_leaves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # By how much the process grows with a model is chance; where that is not known, it is its size.
    monkeypatch.setattr(session, "resident", lambda: 0)
    for name in ("a", "b", "c"):
        onnx.placed(tmp_path, name, heavy(8))

    async def one_after_another() -> None:
        # Each is estimated at 20 MB and then known to have 8; two and an estimate do not fit.
        component = ModelComponent(Settings(folder=tmp_path, memory_bytes=34 << 20))
        body = {"a": {"base64": "AAAAAA=="}}
        for name in ("a", "b", "a", "c"):
            await component.infer(name, body, post={"n": "1"})
        assert list(models(component)) == ["a@1", "c@1"]
        assert component.stats()["unloaded"] == 1
        assert 16 << 20 <= component.stats()["memory_bytes"] <= 17 << 20

    with caplog.at_level(logging.INFO, "bend.model"):
        asyncio.run(one_after_another())
    lines = [record.getMessage() for record in caplog.records]
    assert any("model_unloaded model=b@1" in line and "runs=1" in line for line in lines)


def test_a_model_in_use_is_never_unloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "ROOM_S_MAX", 0.05)
    for name in ("a", "b"):
        onnx.placed(tmp_path, name, heavy(8))

    async def both() -> None:
        component = ModelComponent(Settings(folder=tmp_path, memory_bytes=24 << 20, runs=1))
        body = {"a": {"base64": "AAAAAA=="}}
        await component.infer("a", body, post={"n": "1"})
        await idle(component)
        with held(component) as free:
            busy = asyncio.create_task(component.infer("a", body, post={"n": "1"}))
            await eventually(lambda: models(component)["a@1"]["users"] == 1)
            with pytest.raises(RetryableError) as caught:
                await component.infer("b", body)
            assert caught.value.reason == "MODEL_MEMORY_FULL"
            assert list(models(component)) == ["a@1"]
            # A load that waits for room gets it when the model becomes free.
            monkeypatch.setattr(shelf, "ROOM_S_MAX", 90.0)
            waits = asyncio.create_task(component.infer("b", body, post={"n": "2"}))
            await asyncio.sleep(0)
            free.set()
            assert await busy == {"n": 1}
            assert await waits == {"n": 2}
            assert list(models(component)) == ["b@1"]

    asyncio.run(both())


def test_a_model_larger_than_the_budget_is_refused(tmp_path: Path) -> None:
    onnx.placed(tmp_path, "a", heavy(8))
    with pytest.raises(TerminalError) as caught:
        asyncio.run(ModelComponent(Settings(folder=tmp_path, memory_bytes=1 << 20)).infer("a", {}))
    assert caught.value.reason == "MODEL_TOO_LARGE"


def test_a_file_that_was_written_again_is_loaded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_component, "LOOK_S", 0.0)
    home = onnx.placed(tmp_path, "m", SAME)
    twice = onnx.model(
        [onnx.node("Add", ["a", "a"], "y")],
        [onnx.port("a", onnx.FLOAT, ["N", 2])],
        [onnx.port("y", onnx.FLOAT, ["N", 2])],
    )

    async def before_and_after() -> list[Any]:
        component = ModelComponent(Settings(folder=tmp_path))
        first = await component.infer("m", BODY)
        (home / "model.onnx").write_bytes(twice)
        return [first, await component.infer("m", BODY)]

    assert asyncio.run(before_and_after()) == [{"y": [1.0, 2.0]}, {"y": [2.0, 4.0]}]


def test_the_metrics_are_logged_once_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    onnx.placed(tmp_path, "m", SAME)
    monkeypatch.setattr(batches, "LOG_EVERY_US", 0)
    with caplog.at_level(logging.INFO, "bend.model"):
        asyncio.run(ModelComponent(Settings(folder=tmp_path)).infer("m", BODY))
    assert "model_runs model=m@1 waiting=0 tasks=1 runs=1 items=1" in caplog.text


def test_models_are_warmed_up_when_their_shapes_allow(tmp_path: Path) -> None:
    onnx.placed(tmp_path, "known", SAME)
    onnx.placed(tmp_path, "free", onnx.same(onnx.FLOAT, ["N", "L"]))
    onnx.placed(tmp_path, "text", onnx.same(onnx.STRING, ["N", 2]))
    onnx.placed(tmp_path, "cold", SAME, config='{"warm_up": false}')

    async def all_of_them() -> dict[str, bool]:
        component = ModelComponent(Settings(folder=tmp_path))
        for name in ("known", "free", "cold"):
            await component.infer(name, BODY)
        await component.infer("text", {"a": ["x", "y"]})
        return {name: entry["warmed"] for name, entry in models(component).items()}

    warmed = {"known@1": True, "free@1": False, "cold@1": False, "text@1": True}
    assert asyncio.run(all_of_them()) == warmed
