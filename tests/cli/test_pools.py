"""`bend pools`: what it prints and what it asks for."""

from pathlib import Path

import grpc

from bend.v1 import executor_service_pb2 as pb
from bend.v1 import pool_pb2
from tests.kit.command_line import CommandLine
from tests.kit.fakes.engine import FakeEngine, Refusal
from tests.kit.fakes.pools import described


def status(**fields: object) -> pool_pb2.PoolStatus:
    """Return a pool with two instances, one of them connected."""
    found = pool_pb2.PoolStatus(
        pool=described(),
        state=pool_pb2.PoolStatus.ACTIVE,
        wanted=2,
        waiting_tasks=5,
        open_tasks=3,
        **fields,
    )
    found.instances.add(
        name="slow-1-0000",
        state=pool_pb2.PoolInstance.READY,
        place="pid 77",
        cpu=0.5,
        memory_bytes=64 * 1024 * 1024,
        credit=4,
        in_flight=3,
    )
    found.instances.add(name="slow-2-0000", state=pool_pb2.PoolInstance.STARTING, place="pid 78")
    return found


def test_pools_are_listed_with_demand_and_instances(engine: FakeEngine, bend: CommandLine) -> None:
    engine.script["ListPools"] = [pb.ListPoolsResponse(pools=[status()])]
    done = bend("pools", "list")
    assert done.lines[0].split()[:4] == ["pool", "component", "driver", "status"]
    assert "slow" in done.lines[1]
    assert "1/2 (0-8)" in done.lines[1]
    assert "5 waiting, 3 open" in done.lines[1]
    assert "64 MiB" in done.lines[1]
    document = bend("pools", "list", "--json").json
    assert document["pools"][0]["pool"]["name"] == "slow"
    engine.script["ListPools"] = [pb.ListPoolsResponse()]
    assert bend("pools", "list").err == "no pools\n"


def test_a_pool_is_shown_with_what_happened(engine: FakeEngine, bend: CommandLine) -> None:
    stats = pool_pb2.PoolStats(starts=4, failures=1, ends=["slow-9-0000: exit code 3"])
    engine.script["GetPoolStats"] = [
        pb.GetPoolStatsResponse(status=status(held_instances=2), stats=stats)
    ]
    done = bend("pools", "get", "slow")
    assert "1/2 held (0-8)" in done.lines[0]
    assert "4 starts, 1 failures, 0 stops, 0 kills" in done.out
    assert "pid 77" in done.out
    assert "3/4" in done.out
    assert "ended: slow-9-0000: exit code 3" in done.out
    assert bend("pools", "get", "slow", "--json").json["stats"]["starts"] == "4"


def test_scaling_sends_a_number_or_none(engine: FakeEngine, bend: CommandLine) -> None:
    engine.script["ScalePool"] = [pb.ScalePoolResponse(status=status())]
    assert bend("pools", "scale", "slow", "3").err == "slow is held at 3\n"
    assert bend("pools", "scale", "slow", "auto").err == "slow follows the demand\n"
    held, free = engine.requests["ScalePool"]
    assert (held.instances, free.HasField("instances")) == (3, False)
    assert bend("pools", "scale", "slow", "many").code == 2


def test_a_file_is_stored_and_a_wrong_one_is_not_sent(
    engine: FakeEngine, bend: CommandLine, tmp_path: Path
) -> None:
    engine.script["PutPool"] = [pb.PutPoolResponse(pool=described(), changed=True)]
    file = tmp_path / "pool.yaml"
    file.write_text("component: example.slow\nprocess: {command: [worker]}\nmax_instances: 8\n")
    assert bend("pools", "put", str(file), "--name", "slow").err == "stored\n"
    (request,) = engine.requests["PutPool"]
    wanted = described()
    wanted.name = ""
    assert (request.name, request.pool) == ("slow", wanted)
    file.write_text("procss: {}")
    done = bend("pools", "put", str(file))
    assert done.code != 0
    assert "pool.yaml" in done.err
    assert "procss" in done.err
    assert len(engine.requests["PutPool"]) == 1


def test_deleting_and_its_refusal(engine: FakeEngine, bend: CommandLine) -> None:
    engine.script["DeletePool"] = [
        pb.DeletePoolResponse(),
        Refusal(grpc.StatusCode.NOT_FOUND, "no pool 'slow'", "POOL_NOT_FOUND"),
    ]
    assert bend("pools", "delete", "slow").err == "deleted slow\n"
    done = bend("pools", "delete", "slow")
    assert (done.code, "POOL_NOT_FOUND" in done.err) == (4, True)
