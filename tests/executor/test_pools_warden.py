"""Which executor keeps the pools: the lease, its loss, hand-overs, reports, and the desk."""

import os
from pathlib import Path
from typing import Any

import pytest

from bend.internal.v1 import pool_service_pb2 as pb
from bend.v1 import pool_pb2
from bend_server.core.errors import (
    DependencyDown,
    InvalidInput,
    NotFound,
    NotPermitted,
    WrongState,
)
from bend_server.executor.pools.configuration import FollowedPools
from bend_server.executor.pools.desk import Desk
from bend_server.executor.pools.driver import DriverFault
from bend_server.executor.pools.warden import Warden
from bend_server.queue.memory import MemoryQueue
from bend_server.registry.pools import Pools
from bend_server.storage.memory import MemoryDatabase
from bend_server.storage.memory_pools import MemoryPoolStore
from tests.executor.conftest import Stage, on_stage
from tests.kit.fakes.pools import FakeDriver, announcement, demand, described
from tests.kit.links import Counter
from tests.kit.loops import eventually

FILE = """
api_drivers: [process]
pools:
  - name: slow
    component: example.slow
    process: {command: [worker]}
    max_instances: 4
    scaling: {tasks_per_instance: 4, up_after: 0s, down_after: 2s, idle: 5s}
"""


class Reached:
    """The registry as executors reach it; `down` cuts it off."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools
        self.down = False

    async def sync_pools(self, request: pb.SyncPoolsRequest) -> pb.SyncPoolsResponse:
        if self.down:
            raise DependencyDown("the registry is away")
        return await self._pools.sync(request)

    async def change_pool(self, request: pb.ChangePoolRequest) -> pb.ChangePoolResponse:
        if self.down:
            raise DependencyDown("the registry is away")
        return await self._pools.change(request)


class Cluster:
    """Executors with pools over one registry and one queue."""

    def __init__(self, stage: Stage, folder: Path, file: str = FILE) -> None:
        self.stage = stage
        self.path = folder / "pools.yaml"
        self.path.write_text(file)
        self.store = MemoryPoolStore(MemoryDatabase(stage.clock))
        self.pools = Pools(self.store, stage.clock)
        self.queue = stage.engine

    async def executor(self, name: str, seat: str = "", driver: Any = None) -> "One":
        one = One(self, name, seat or name, driver or FakeDriver())
        await one.warden.start()
        return one

    async def tasks(self, waiting: int, seconds: float) -> None:
        """Announce demand for some seconds."""
        for _ in range(round(seconds)):
            await self.queue.broadcast("engine.demand", demand(waiting))
            await self.stage.loop_sleep(1.0)


class One:
    """One executor's pools."""

    def __init__(self, cluster: Cluster, name: str, seat: str, driver: Any) -> None:
        self.driver = driver
        self.registry = Reached(cluster.pools)
        self.warden = Warden(
            MemoryQueue(cluster.stage.broker, name),
            cluster.stage.clock,
            Counter(int.from_bytes(name.encode()) << 16),
            self.registry,
            FollowedPools(cluster.path, "default"),
            self._of,
            name=name,
            seat=seat,
        )
        self.desk = Desk(self.warden)

    def _of(self, kind: str) -> Any:
        if isinstance(self.driver, DriverFault):
            raise self.driver
        return self.driver

    @property
    def count(self) -> int:
        return len(self.driver.alive)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Folder.path = tmp_path
    return tmp_path


class Folder:
    """Where the test that runs keeps its file: `on_stage` hides fixtures."""

    path = Path()


pytestmark = pytest.mark.usefixtures("folder")


@on_stage
async def test_one_of_two_executors_keeps_the_pools_and_both_tell_of_them(stage: Stage) -> None:
    cluster = Cluster(stage, Folder.path)
    first, second = await cluster.executor("x1"), await cluster.executor("x2")
    await cluster.tasks(16, 10)
    assert sorted((first.count, second.count)) == [0, 4]
    for one in (first, second):
        (status,) = one.desk.pools("default")
        assert status.state == pool_pb2.PoolStatus.ACTIVE
        assert (status.wanted, len(status.instances)) == (4, 4)
        assert status.executor == ("x1" if first.count else "x2")
        assert status.source == pool_pb2.PoolStatus.CONFIGURATION
    assert first.desk.pools("alien") == []


@on_stage
async def test_when_its_executor_dies_another_one_keeps_the_pools(stage: Stage) -> None:
    cluster = Cluster(stage, Folder.path)
    first = await cluster.executor("x1")
    await cluster.tasks(16, 5)
    second = await cluster.executor("x2")
    await cluster.tasks(16, 5)
    assert (first.count, second.count) == (4, 0)
    task = first.warden._task
    assert task is not None
    task.cancel()
    await cluster.tasks(16, 10)
    assert second.count == 0
    await cluster.tasks(16, 10)
    assert second.count == 4


@on_stage
async def test_an_executor_that_comes_back_to_its_seat_does_not_wait(stage: Stage) -> None:
    cluster = Cluster(stage, Folder.path)
    first = await cluster.executor("host:1:10", "host:1")
    await cluster.tasks(16, 5)
    task = first.warden._task
    assert task is not None
    task.cancel()
    second = await cluster.executor("host:1:11", "host:1")
    await cluster.tasks(16, 4)
    assert second.count == 4


@on_stage
async def test_without_the_registry_it_acts_no_more_before_the_lease_ends(stage: Stage) -> None:
    cluster = Cluster(stage, Folder.path)
    first = await cluster.executor("x1")
    await cluster.tasks(4, 5)
    assert first.count == 1
    first.registry.down = True
    second = await cluster.executor("x2")
    acted_until = taken_at = 0.0
    for second_no in range(40):
        before = len(first.driver.started) + len(first.driver.asked)
        if first.driver.alive:
            first.driver.end(next(iter(first.driver.alive)))
        await cluster.tasks(16, 1)
        if len(first.driver.started) + len(first.driver.asked) > before:
            acted_until = float(second_no)
        if second.count and not taken_at:
            taken_at = float(second_no)
    assert 0 < acted_until < taken_at
    assert second.count == 4


@on_stage
async def test_who_learns_that_another_one_keeps_them_ends_its_own(stage: Stage) -> None:
    cluster = Cluster(stage, Folder.path)
    first = await cluster.executor("x1")
    await cluster.tasks(16, 5)
    first.registry.down = True
    second = await cluster.executor("x2")
    await cluster.tasks(16, 20)
    # They run on, and what they do is still answered.
    assert (first.count, second.count) == (4, 4)
    first.registry.down = False
    await cluster.tasks(16, 5)
    assert (first.count, second.count) == (0, 4)
    assert len(first.driver.asked) == 4


@on_stage
async def test_a_stop_ends_what_would_die_with_it_and_gives_the_lease_back(stage: Stage) -> None:
    cluster = Cluster(stage, Folder.path)
    first = await cluster.executor("x1")
    stays = await cluster.executor("x2", driver=FakeDriver(outlives=True))
    await cluster.tasks(16, 5)
    await first.warden.stop()
    await first.warden.stop()
    assert (first.count, first.driver.closed) == (0, True)
    await cluster.tasks(16, 4)
    assert stays.count == 4
    await stays.warden.stop()
    assert (stays.count, stays.driver.closed) == (4, True)
    assert await cluster.store.pools() == []


@on_stage
async def test_without_pools_nothing_is_written(stage: Stage) -> None:
    cluster = Cluster(stage, Folder.path, "")
    one = await cluster.executor("x1")
    await cluster.tasks(16, 30)
    assert await cluster.store.pools() == []
    assert one.desk.pools("default") == []


@on_stage
async def test_a_missing_extra_is_a_broken_pool_that_names_it(stage: Stage) -> None:
    cluster = Cluster(stage, Folder.path)
    one = await cluster.executor("x1", driver=DriverFault("pip install 'bend[docker]'"))
    await cluster.tasks(1, 3)
    (status,) = one.desk.pools("default")
    assert status.state == pool_pb2.PoolStatus.BROKEN
    assert status.reason == "pool slow: pip install 'bend[docker]'"


@on_stage
async def test_registration_is_the_last_bound(stage: Stage) -> None:
    cluster = Cluster(stage, Folder.path)
    one = await cluster.executor("x1")
    await cluster.queue.broadcast(
        "registry.announce", announcement(1, *(f"slow/i{n}" for n in range(4)), executor="x9")
    )
    await stage.loop_sleep(1)
    with pytest.raises(DependencyDown, match="has its 4 instances"):
        one.warden.admit("default", "slow/i7")
    # One that reconnects is not one more; other pools and namespaces are not counted.
    one.warden.admit("default", "slow/i3")
    one.warden.admit("default", "other/i7")
    one.warden.admit("alien", "slow/i7")


@on_stage
async def test_pools_by_api_live_and_die(stage: Stage) -> None:
    cluster = Cluster(stage, Folder.path)
    first, second = await cluster.executor("x1"), await cluster.executor("x2")
    await stage.loop_sleep(1)
    wish = described("more", min_instances=2)
    stored, changed = await second.desk.put("default", "more", wish)
    assert (stored.name, changed) == ("more", True)
    assert (await second.desk.put("default", "more", described("more", min_instances=2)))[
        1
    ] is False
    await eventually(lambda: first.count + second.count == 2, 10)
    names = [one.pool.name for one in first.desk.pools("default")]
    assert names == ["more", "slow"]
    await eventually(lambda: first.desk.stats("default", "more")[1].starts == 2, 10)
    status, _ = first.desk.stats("default", "more")
    assert status.source == pool_pb2.PoolStatus.API
    status = await first.desk.scale("default", "more", 5)
    assert status.held_instances == 5
    await eventually(lambda: first.count + second.count == 5, 10)
    status = await first.desk.scale("default", "more", None)
    assert not status.HasField("held_instances")
    await first.desk.delete("default", "more")
    await eventually(lambda: first.count + second.count == 0, 10)
    with pytest.raises(NotFound):
        first.desk.stats("default", "more")
    with pytest.raises(NotFound):
        await second.desk.delete("default", "more")


@on_stage
async def test_what_may_not_be_is_refused(stage: Stage) -> None:
    cluster = Cluster(stage, Folder.path)
    desk = (await cluster.executor("x1")).desk
    with pytest.raises(WrongState):
        await desk.put("default", "slow", described())
    with pytest.raises(WrongState):
        await desk.delete("default", "slow")
    docker = described("more", docker={"image": f"x@sha256:{'0' * 64}"})
    with pytest.raises(NotPermitted, match="api_drivers"):
        await desk.put("default", "more", docker)
    with pytest.raises(InvalidInput, match="is not 'more'"):
        await desk.put("default", "more", described("other"))
    with pytest.raises(InvalidInput, match="at most 4"):
        await desk.scale("default", "slow", 5)
    with pytest.raises(NotFound):
        await desk.scale("default", "nobody", 1)
    await desk.scale("default", "slow", 3)
    await desk.scale("default", "slow", None)
    # Only the lease is left: a configured pool that follows demand needs no record.
    assert [row.name for row in await cluster.store.pools()] == [""]


@on_stage
async def test_a_changed_file_is_followed_a_wrong_one_is_not(stage: Stage) -> None:
    cluster = Cluster(stage, Folder.path)
    one = await cluster.executor("x1")
    await cluster.tasks(16, 4)
    assert one.count == 4
    rewrite(cluster.path, FILE.replace("max_instances: 4", "max_instances: 2"), 1)
    await cluster.tasks(16, 6)
    assert one.count == 2
    rewrite(cluster.path, "pools: 7", 2)
    await cluster.tasks(16, 3)
    assert one.count == 2
    rewrite(cluster.path, "", 3)
    await cluster.tasks(16, 6)
    assert (one.count, one.desk.pools("default")) == (0, [])


def rewrite(path: Path, text: str, age: int) -> None:
    """Write a file so that its time differs from the last one's."""
    path.write_text(text)
    os.utime(path, ns=(age, age))


@on_stage
async def test_the_operator_may_take_an_allowance_back(stage: Stage) -> None:
    cluster = Cluster(stage, Folder.path, "api_drivers: [process]")
    first = await cluster.executor("x1")
    await first.desk.put("default", "more", described("more", min_instances=1))
    await eventually(lambda: first.count == 1, 10)
    await first.warden.stop()
    cluster.path.write_text("")
    second = await cluster.executor("x2")
    await stage.loop_sleep(20)
    assert second.count == 0
    (status,) = second.desk.pools("default")
    assert status.state == pool_pb2.PoolStatus.UNMANAGED
    assert "no longer allows" in status.reason
