"""Random days of several executors: messages doubled, late and lost, services and executors dying.

Whatever happens, every task ends at least once, with its own output, and no frame stays behind.
The engine here is the smallest one that keeps the contract: a set of open keys, results taken from
RESULTS and acked, and the periodic look for frames that got lost.
"""

import asyncio
import random
from typing import Any

import pytest

from bend.internal.v1 import control_pb2, frames_pb2
from bend.v1 import executor_service_pb2 as pb
from bend_server.executor.holdings import Key, key_of, task_key
from bend_server.ports.queue import RESULTS, TASKS, QueueDown
from bend_server.queue.memory import MemoryBroker, MemoryQueue
from tests.executor.conftest import Stage
from tests.kit.links import House, Service, contract, queued
from tests.kit.loops import eventually
from tests.kit.virtual_time import VirtualLoop, run_virtual

QR = frames_pb2.QueuedResult
TASKS_COUNT = 150
LONG = "train"


class Weather:
    """Loses 3 %, doubles 3 % and delays all messages by up to 50 ms, some by 3 s."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.calm = False

    def fate(self, kind: str, subject: str) -> tuple[float, ...]:
        if self.calm:
            return (0.001,)
        roll = self.chance.random()
        delay = self.chance.uniform(0, 0.05)
        if roll < 0.03:
            return ()
        if roll < 0.06:
            return (delay, delay + self.chance.uniform(0, 1))
        return (delay + 3.0,) if roll < 0.08 else (delay,)


class Engine:
    """Open keys, and what came for them."""

    def __init__(self, stage: Stage, publisher: House) -> None:
        self.stage = stage
        self.publisher = publisher
        self.open: dict[Key, tuple[str, int]] = {}
        self.ended: dict[Key, list[frames_pb2.QueuedResult]] = {}
        self.cancelled: set[Key] = set()

    async def start(self) -> None:
        await self.stage.engine.serve("engine.open.0", self.answer)
        self.consumer = await self.stage.engine.consume(RESULTS, "results.0", "r-0", 10, None)
        self.tasks = [
            self.stage.loop.create_task(self.take()),
            self.stage.loop.create_task(self.resync()),
        ]

    async def answer(self, data: bytes) -> bytes:
        state = control_pb2.OpenKeysResponse
        keys = [key_of(key) for key in control_pb2.OpenKeysRequest.FromString(data).keys]
        states = [state.OPEN if key in self.open else state.CLOSED for key in keys]
        return state(states=states, epoch=1).SerializeToString()

    async def take(self) -> None:
        self.consumer.demand(100)
        while True:
            delivery = await self.consumer.next()
            for result in frames_pb2.ResultFrame.FromString(delivery.data).results:
                key = key_of(result)
                self.ended.setdefault(key, []).append(result)
                self.open.pop(key, None)
            self.stage.engine.ack(delivery.token)
            self.consumer.demand(100)

    async def publish(self, keys: list[tuple[Key, str]]) -> None:
        by_component: dict[str, list[Key]] = {}
        for key, component in keys:
            by_component.setdefault(component, []).append(key)
        for component, group in by_component.items():
            size = 1 if component == LONG else 16
            for start in range(0, len(group), size):
                part = group[start : start + size]
                frame = [queued(k[0], k[1], k[3], timeout_ms=120_000) for k in part]
                try:
                    sequence = await self.publisher.publish(frame, component)
                except QueueDown:
                    continue
                for key in part:
                    if key in self.open:
                        self.open[key] = (component, sequence)

    async def resync(self) -> None:
        """Publish again what neither ended nor waits in the queue."""
        while True:
            await asyncio.sleep(30)
            lost = []
            for key, (component, sequence) in list(self.open.items()):
                if sequence and await self.stage.engine.holds(TASKS, sequence):
                    continue
                if key in self.open:
                    lost.append((key, component))
            await self.publish(lost)


class Life:
    """A service that works for random times, dies now and then, and comes back."""

    def __init__(self, chance: random.Random, name: str, stage: Stage) -> None:
        self.chance = chance
        self.name = name
        self.stage = stage
        self.service: Service | None = None
        self.run = 0
        self.stuck = True

    def connect(self, house: House, *, resume: bool) -> None:
        held: list[tuple[int, bytes]] = []
        if resume and self.service is not None:
            held = [(t.run_id, t.resume_token) for t in self.service.tasks if t.resume_token][-50:]
        else:
            self.run += 1
        service = Service(
            house.room,
            credit=self.chance.choice([1, 3, 20]),
            instance=f"{self.name}-{self.run}",
            components=[contract("echo"), contract(LONG, long_running=True)],
            held=held,
        )
        service.on_task = lambda task: self.later(service, task)
        if resume and self.service is not None:
            for task in self.service.tasks:
                if task.resume_token:
                    self.later(service, task)
        self.service = service

    def later(self, service: Service, task: pb.Task) -> None:
        most = 40.0 if task.component == 1 else 0.5
        if self.chance.random() < 0.02 and task.component == 0 and self.stuck:
            return
        self.stage.loop.call_later(
            self.chance.uniform(0, most), lambda: service.answer(task, output=task.input)
        )

    def die(self) -> None:
        if self.service is not None and not self.service.ended:
            self.service.crash()


async def day(loop: VirtualLoop, seed: int) -> None:
    """Run one random day to its end."""
    chance = random.Random(seed)
    weather = Weather(chance)
    stage = Stage(loop)
    stage.broker = MemoryBroker(stage.clock.now_us, weather)
    stage.engine = MemoryQueue(stage.broker, "engine")
    houses = [await stage.house(f"x{n}") for n in range(2)]
    engine = Engine(stage, House(stage.engine, stage.clock, name="engine"))
    await engine.start()
    lives = [Life(chance, f"w{n}", stage) for n in range(3)]
    for life in lives:
        life.connect(chance.choice(houses), resume=False)
    keys = [(n, 0, 0, 1) for n in range(1, TASKS_COUNT + 1)]
    work = [(key, LONG if key[0] % 10 == 0 else "echo") for key in keys]
    engine.open = {key: (component, 0) for key, component in work}
    for start in range(0, len(work), 30):
        await engine.publish(work[start : start + 30])
        await asyncio.sleep(chance.uniform(0, 3))
        houses = await trouble(chance, stage, houses, lives, engine)
    weather.calm = True
    # A service whose whole credit is stuck in tasks that never answer is of no use any more.
    lives[0].die()
    lives[0].stuck = False
    for life in lives:
        if life.service is None or life.service.ended or life is lives[0]:
            life.connect(chance.choice(houses), resume=False)
    await eventually(lambda: not engine.open, 1500)

    async def empty() -> bool:
        return not stage.broker.streams[TASKS].messages

    await eventually(empty, 300)
    judge(engine, keys)


async def trouble(
    chance: random.Random, stage: Stage, houses: list[House], lives: list[Life], engine: Engine
) -> list[House]:
    """Let something bad happen, or nothing."""
    kind = chance.choice(["nothing", "worker", "worker", "executor", "stop", "wipe", "cancel"])
    if kind == "worker":
        life = chance.choice(lives)
        life.die()
        stage.loop.call_later(
            chance.uniform(0, 15), lambda: life.connect(houses[0], resume=chance.random() < 0.7)
        )
    elif kind in ("executor", "stop"):
        victim = houses.pop(chance.randrange(len(houses)))
        if kind == "stop":
            task = stage.loop.create_task(victim.room.stop())
            task.add_done_callback(lambda done: done.exception())
        else:
            victim.queue.disconnect()  # type: ignore[attr-defined]
        houses.append(await stage.house(f"y{chance.randrange(10**6)}"))
        for life in lives:
            if life.service is not None and (life.service.ended or chance.random() < 0.9):
                life.die()
                life.connect(houses[-1], resume=chance.random() < 0.7)
    elif kind == "wipe":
        stage.broker.wipe()
    elif kind == "cancel" and engine.open:
        key = chance.choice(list(engine.open))
        engine.cancelled.add(key)
        notice = control_pb2.CancelNotice(keys=[task_key(key)])
        await stage.engine.broadcast("executor.cancel", notice.SerializeToString())
    return houses


def judge(engine: Engine, keys: list[Any]) -> None:
    """Every task ended; those that completed gave their own output."""
    assert set(engine.ended) == set(keys)
    for key, results in engine.ended.items():
        for result in results:
            if result.status == QR.COMPLETED:
                assert result.output == b'{"n":%d}' % key[0]
            elif result.status == QR.CANCELLED:
                assert key in engine.cancelled
            else:
                assert result.failure.reason in ("WORKER_LOST", "TIMEOUT"), result


@pytest.mark.parametrize("block", range(10))
def test_storms(block: int) -> None:
    for seed in range(block * 4, block * 4 + 4):
        print(f"seed {seed}")
        run_virtual(lambda loop, seed=seed: day(loop, seed))  # type: ignore[misc]
