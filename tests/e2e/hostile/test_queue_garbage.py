"""Garbage on every subject of NATS, from the rightful identities, while a load runs.

What would break in production if these fail: one bad message of one process stops all.
"""

import asyncio
import random
from collections.abc import Callable

import pytest

from bend.internal.v1 import control_pb2, frames_pb2
from tests.e2e.hostile.house import House
from tests.e2e.scenario import seeded
from tests.kit.loops import eventually, in_loop

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]

LOAD = 60
U32, U64 = (1 << 32) - 1, (1 << 64) - 1
SLOTS = 4
SUBJECTS = [
    *((f"results.{slot}", "executor") for slot in range(SLOTS)),
    *((f"engine.open.{slot}", "executor") for slot in range(SLOTS)),
    *((f"engine.started.{slot}", "executor") for slot in range(SLOTS)),
    ("registry.announce", "executor"),
    ("executor.adopted", "executor"),
    ("chunks.0", "executor"),
    *((f"engine.command.{slot}", "engine") for slot in range(SLOTS)),
    *((f"engine.finished.{slot}", "engine") for slot in range(SLOTS)),
    *((f"engine.slots.{slot}", "engine") for slot in range(SLOTS)),
    *((f"engine.mail.{slot}", "engine") for slot in range(SLOTS)),
    ("executor.cancel", "engine"),
]


def scribbles(chance: random.Random) -> list[bytes]:
    """Return what is no message: nothing, noise, cut-off and endless fields."""
    whole = frames_pb2.ResultFrame(executor="e", results=[{"execution": 1}]).SerializeToString()
    return [
        b"",
        b"\0",
        b"\xff" * 1024,
        whole[:-1],
        b"\x0a\xff\xff\xff\xff\x0f",
        b"\x0a\x02\xff\xfe",
        b'{"json": true}',
        chance.randbytes(100),
        chance.randbytes(200_000),
    ]


def absurd_results(_chance: random.Random) -> list[bytes]:
    """Return readable frames that say what cannot be."""
    wrong = [
        {"execution": U64, "task": U32, "item": U32, "try": U32, "status": 1, "output": b"1"},
        {"execution": 0, "task": 0, "try": 0, "status": 0},
        {"execution": 1, "status": 4, "started_us": -1, "finished_us": (1 << 63) - 1},
        {"execution": 2, "status": 1, "blob": {"key": "../../etc/passwd", "size_bytes": U64}},
        {"execution": 3, "status": 2, "failure": {"reason": "\0", "message": "\0" * 9000}},
        {"execution": 4, "status": 1, "output": b"{not json", "worker": "a\0b"},
    ]
    return [
        frames_pb2.ResultFrame(executor="\0").SerializeToString(),
        *(frames_pb2.ResultFrame(results=[one]).SerializeToString() for one in wrong),
    ]


def absurd_keys(_chance: random.Random) -> list[bytes]:
    """Return notices about tasks that nobody has."""
    keys = [
        control_pb2.TaskKey(execution=U64, task=U32, item=U32, **{"try": U32}),
        control_pb2.TaskKey(),
    ]
    return [
        control_pb2.StartedNotice(keys=keys, workers=["\0"] * 3).SerializeToString(),
        control_pb2.OpenKeysRequest(keys=keys * 1000).SerializeToString(),
        control_pb2.EngineCommand(execution=U64, notify_slot=U32).SerializeToString(),
        control_pb2.EngineCommand(execution=1, cancel="\0", actor="\0").SerializeToString(),
        control_pb2.FinishedNotice(executions=[0, 1, U64]).SerializeToString(),
    ]


def absurd_announcements(_chance: random.Random) -> list[bytes]:
    """Return executors that do not exist, with groups that say what cannot be."""
    group = control_pb2.GroupAnnouncement(
        group="../x", namespace="\0", component="\0", version="not a version", credit=U32
    )
    group.instances.add(instance_id="\0", credit=U32, in_flight=U32, connected_us=-1)
    announced = control_pb2.InstanceAnnouncement(
        executor="forged", sequence=U64, incarnation=U64, groups=[group, group]
    )
    leaving = control_pb2.InstanceAnnouncement(executor="forged", leaving=True)
    return [announced.SerializeToString(), leaving.SerializeToString()]


KINDS: dict[str, Callable[[random.Random], list[bytes]]] = {
    "scribbles": scribbles,
    "results": absurd_results,
    "keys": absurd_keys,
    "announcements": absurd_announcements,
}


@pytest.mark.parametrize("kind", KINDS)
@in_loop
async def test_garbage_on_every_subject_harms_no_load(house: House, kind: str) -> None:
    chance = seeded(f"garbage {kind}")
    messages = KINDS[kind](chance)
    load = await asyncio.to_thread(house.start_load, LOAD)
    async with house.nats("executor") as executor, house.nats("engine") as engine:
        links = {"executor": executor, "engine": engine}
        groups = await task_groups(house)
        for subject, role in [*SUBJECTS, *((f"tasks.{group}", "engine") for group in groups)]:
            for message in messages:
                await links[role].publish(subject, message)
        for link in links.values():
            await link.flush(10)
        await asyncio.to_thread(house.judge, load)
    assert house.rest.get("/readyz").status_code == 200


@in_loop
async def test_a_question_that_is_garbage_is_answered_or_dropped(house: House) -> None:
    """The asker must not be able to hang or kill whom it asks."""
    async with house.nats("executor") as link:
        for message in scribbles(seeded("questions")):
            await link.publish("engine.open.0", message, reply="_INBOX_executor.x")
        await link.flush(10)
    assert (await asyncio.to_thread(house.run, chain_of_one(), value=1))["status"] == "COMPLETED"


@in_loop
async def test_garbage_is_seen_in_the_logs(house: House) -> None:
    """Somebody has to be told, without the payload, and not once a message."""
    [group, *_] = await task_groups(house)
    noise = b"\xffsecret payload"
    async with house.nats("executor") as executor, house.nats("engine") as engine:
        for _ in range(100):
            await executor.publish("results.0", noise)
            await engine.publish(f"tasks.{group}", noise)
            await engine.publish("executor.cancel", noise)
        await executor.flush(10)
        await engine.flush(10)
    await eventually(lambda: "result_frame_unreadable" in house.log("server"))
    await eventually(lambda: "task_frame_malformed" in house.log("executor"))
    await eventually(lambda: "cancel_notice_malformed" in house.log("executor"))
    for process, event in (
        ("server", "result_frame_unreadable"),
        ("executor", "task_frame_malformed"),
        ("executor", "cancel_notice_malformed"),
    ):
        text = house.log(process)
        assert "secret payload" not in text
        assert text.count(event) < 100


def chain_of_one() -> dict[str, object]:
    """Return a workflow of one step."""
    step = {"id": "only", "type": "hostile.step", "value": "{{input.value}}"}
    return {"name": "hostile_one", "tasks": [step]}


async def task_groups(house: House) -> list[str]:
    """Return the instance groups that TASKS has consumers for."""
    async with house.nats("engine") as link:
        found = await link.jetstream().consumers_info("TASKS")
    return sorted(str(one.name).removeprefix("g-") for one in found)
