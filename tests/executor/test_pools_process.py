"""Driver `process` with real programs: environment, bounds, children, ends, what is left behind."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from bend_server.executor.pools.driver import DriverFault, Unit
from bend_server.executor.pools.drivers import given_access, issued_access
from bend_server.executor.pools.process import LOG_BYTES_MAX, ProcessDriver
from bend_server.executor.pools.spec import PoolSpec
from tests.kit.fakes.pools import spec_of
from tests.kit.loops import eventually, in_loop
from tests.kit.programs import alive
from tests.kit.waiting import wait_until

REPORT = """
import json, os, resource, sys, time
facts = {
    "environment": dict(os.environ), "folder": os.getcwd(), "nice": os.nice(0),
    "data": resource.getrlimit(resource.RLIMIT_DATA)[0],
    "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    "group": os.getpgrp() == os.getpid(), "arguments": sys.argv[1:],
}
with open(sys.argv[1] + ".new", "w") as file:
    json.dump(facts, file)
os.rename(sys.argv[1] + ".new", sys.argv[1])
print("reported", flush=True)
time.sleep(600)
"""
FAMILY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
with open(sys.argv[1], "w") as file:
    file.write(str(child.pid))
time.sleep(600)
"""
STUBBORN = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], "w").write("up")
time.sleep(600)
"""


def access(component: str) -> Mapping[str, str]:
    return {"BEND_URL": "https://127.0.0.1:1", "BEND_CERT_FILE": f"{component}.pem"}


def program(text: str, *arguments: str, **fields: Any) -> PoolSpec:
    part = fields.pop("process", {})
    command = [sys.executable, "-c", text, *arguments]
    return spec_of(process={"command": command, **part}, **fields)


@asynccontextmanager
async def driver_in(folder: Path) -> AsyncIterator[ProcessDriver]:
    driver = ProcessDriver(access, folder / "logs", folder / "run" / "pools.json")
    try:
        yield driver
    finally:
        await driver.close()


async def unit(driver: ProcessDriver, spec: PoolSpec) -> Unit:
    (found,) = await driver.units(spec)
    return found


def ended(driver: ProcessDriver, spec: PoolSpec) -> Callable[[], Any]:
    async def look() -> bool:
        return not (await unit(driver, spec)).alive

    return look


@in_loop
async def test_an_instance_gets_a_clean_environment_and_its_bounds(tmp_path: Path) -> None:
    os.environ["BEND_SECRET_OF_TEST"] = "hidden"
    told = tmp_path / "told.json"
    spec = program(
        REPORT,
        str(told),
        "$(id); *",
        process={"environment": {"COLOUR": "red"}, "folder": str(tmp_path), "nice": 3},
        resources={"memory_mib": 300, "open_files": 64},
    )
    try:
        async with driver_in(tmp_path) as driver:
            await driver.start(spec, "slow-1-0000", 1)
            await eventually(told.exists)
            log = tmp_path / "logs" / "pool-slow-1.log"
            await eventually(lambda: "reported" in log.read_text())
    finally:
        del os.environ["BEND_SECRET_OF_TEST"]
    facts = json.loads(told.read_text())
    environment = facts["environment"]
    assert environment["BEND_CERT_FILE"] == "example.slow.pem"
    assert environment["BEND_POOL_INSTANCE"] == "slow/slow-1-0000"
    assert environment["COLOUR"] == "red"
    assert not any("SECRET" in name for name in environment)
    assert facts["arguments"] == [str(told), "$(id); *"]
    assert facts["folder"] == str(tmp_path)
    assert (facts["data"], facts["files"]) == (300 * 1024 * 1024, 64)
    assert facts["nice"] == min(19, os.nice(0) + 3)
    assert facts["group"] is True
    assert log.stat().st_mode & 0o777 == 0o600


@in_loop
async def test_use_is_sampled_and_ends_are_told(tmp_path: Path) -> None:
    spin = program("while True: pass")
    async with driver_in(tmp_path) as driver:
        await driver.start(spin, "slow-1-0000", 1)

        async def busy() -> bool:
            found = await unit(driver, spin)
            return found.cpu > 0.05 and found.memory_bytes > 1_000_000

        await eventually(busy)
        await driver.ask(spin, "slow-1-0000")
        await eventually(ended(driver, spin))
        found = await unit(driver, spin)
        assert (found.ended, found.cpu, found.asked) == ("killed by SIGTERM", 0.0, True)
        await driver.remove(spin, "slow-1-0000")
        assert await driver.units(spin) == []
        failing = program("import sys; sys.exit(3)")
        await driver.start(failing, "slow-1-0001", 1)
        await eventually(ended(driver, failing))
        assert (await unit(driver, failing)).ended == "exit code 3, see logs/pool-slow-1.log"


@in_loop
async def test_children_end_with_their_instance(tmp_path: Path) -> None:
    for number, end in enumerate(("kill", "crash"), 1):
        told = tmp_path / f"child-{number}"
        spec = program(FAMILY, str(told))
        name = f"slow-{number}-0000"
        async with driver_in(tmp_path) as driver:
            await driver.start(spec, name, number)
            await eventually(lambda told=told: told.exists() and told.read_text() != "")
            child = int(told.read_text())
            leader = int((await unit(driver, spec)).place.removeprefix("pid "))
            if end == "kill":
                await driver.kill(spec, name)
            else:
                os.kill(leader, signal.SIGKILL)
            await eventually(ended(driver, spec))
            await driver.remove(spec, name)
            await eventually(lambda child=child: not alive(child))


@in_loop
async def test_who_ignores_the_wish_to_stop_is_killed(tmp_path: Path) -> None:
    told = tmp_path / "up"
    spec = program(STUBBORN, str(told))
    async with driver_in(tmp_path) as driver:
        await driver.start(spec, "slow-1-0000", 1)
        await eventually(told.exists)
        await driver.ask(spec, "slow-1-0000")
        assert (await unit(driver, spec)).alive
        await driver.kill(spec, "slow-1-0000")
        await eventually(ended(driver, spec))
        assert (await unit(driver, spec)).ended == "killed by SIGKILL"


@in_loop
async def test_what_cannot_start_says_why(tmp_path: Path) -> None:
    async with driver_in(tmp_path) as driver:
        missing = spec_of(process={"command": ["no-such-program-here"]})
        with pytest.raises(DriverFault, match="pool slow: no-such-program-here cannot be started"):
            await driver.start(missing, "slow-1-0000", 1)
        nowhere = program("", process={"folder": str(tmp_path / "nowhere")})
        with pytest.raises(DriverFault, match="nowhere"):
            await driver.start(nowhere, "slow-1-0000", 1)
        assert await driver.units(missing) == []
    homeless = ProcessDriver(
        issued_access(lambda path: (tmp_path, tmp_path), tmp_path, ""), tmp_path, tmp_path / "m"
    )
    with pytest.raises(DriverFault, match="BEND_URL is not set"):
        await homeless.start(program(""), "slow-1-0000", 1)
    without = ProcessDriver(given_access(tmp_path, "https://x:1"), tmp_path, tmp_path / "m")
    with pytest.raises(DriverFault, match=r"ca\.pem is not there"):
        await without.start(program(""), "slow-1-0000", 1)


@in_loop
async def test_a_long_log_is_moved_aside(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "pool-slow-1.log"
    log.parent.mkdir()
    with log.open("wb") as file:
        file.truncate(LOG_BYTES_MAX + 1)
    async with driver_in(tmp_path) as driver:
        spec = program("print('new', flush=True)")
        await driver.start(spec, "slow-1-0000", 1)
        await eventually(lambda: log.exists() and log.read_text() == "new\n")
    assert log.with_name("pool-slow-1.log.1").stat().st_size == LOG_BYTES_MAX + 1


HOST = """
import asyncio, sys
from pathlib import Path
from bend_server.executor.pools.process import ProcessDriver
from tests.kit.fakes.pools import spec_of

async def main(folder, told):
    driver = ProcessDriver(lambda component: {}, folder / "logs", folder / "run" / "pools.json")
    command = [sys.executable, "-c", sys.argv[3], told]
    await driver.start(spec_of(process={"command": command}), "slow-1-0000", 1)
    await asyncio.sleep(600)

asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
"""


def host_of(folder: Path, told: Path) -> "subprocess.Popen[bytes]":
    """Start what stands for an executor, with one instance."""
    return subprocess.Popen(
        [sys.executable, "-c", HOST, str(folder), str(told), FAMILY],
        cwd=Path(__file__).resolve().parents[2],
    )


@in_loop
async def test_nothing_outlives_a_killed_executor_for_long(tmp_path: Path) -> None:
    told = tmp_path / "child"
    host = host_of(tmp_path, told)
    try:
        wait_until(lambda: told.exists() and told.read_text() != "", "a child", 60)
        child = psutil.Process(int(told.read_text()))
        leader = child.parent()
        assert leader is not None
        host.kill()
        host.wait()
        # The kernel ends the program itself; its child is for the next executor.
        wait_until(lambda: not alive(leader.pid), "the end of the program", 30)
        assert alive(child.pid)
        driver = ProcessDriver(access, tmp_path / "logs", tmp_path / "run" / "pools.json")
        assert await driver.sweep() == ["slow/slow-1-0000"]
        wait_until(lambda: not alive(child.pid), "the end of the child", 30)
        assert await driver.sweep() == []
    finally:
        host.kill()
        host.wait()
