"""A worker as its author runs it: a program of its own, ended by signals."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest

from tests.kit.fakes.executor import FakeExecutor

END_S = 60.0
PROGRAM = """
import asyncio, sys, time
from bend import Worker, component

@component("p.told")
async def told() -> str:
    print("began", flush=True)
    return (await asyncio.to_thread(sys.stdin.readline)).strip()

@component("p.stuck")
def stuck() -> None:
    print("began", flush=True)
    time.sleep(3600)

Worker([told, stuck], drain_timeout=float(sys.argv[1])).run()
"""
SEVERAL = """
from bend import Worker, component

def served(name, credit):
    @component(name)
    async def answer() -> str:
        return name
    return Worker([answer], credit=credit, on_stop=lambda: print("closed", name, flush=True))

Worker.run_all([served("p.fast", 64), served("p.slow", 2)])
"""


@contextmanager
def program(
    fake: FakeExecutor, drain_s: float = 10.0, text: str = PROGRAM
) -> Iterator["subprocess.Popen[str]"]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BEND_")}
    process = subprocess.Popen(
        [sys.executable, "-c", text, str(drain_s)],
        env=environment | {"BEND_URL": fake.url},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=END_S)


def began(process: "subprocess.Popen[str]") -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "began\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_exits_well(number: signal.Signals) -> None:
    with FakeExecutor() as fake, program(fake) as process:
        connection = fake.connection()
        connection.welcome()
        connection.task(1, 0)
        began(process)
        process.send_signal(number)
        connection.until(lambda: connection.drained, "the drain")
        assert not connection.results
        assert process.stdin is not None
        process.stdin.write("done\n")
        process.stdin.flush()
        assert connection.output(1) == "done"
        assert process.wait(END_S) == 0


def test_a_second_signal_ends_at_once() -> None:
    with FakeExecutor() as fake, program(fake) as process:
        connection = fake.connection()
        connection.welcome()
        connection.task(1, 0)
        began(process)
        process.send_signal(signal.SIGTERM)
        connection.until(lambda: connection.drained, "the drain")
        process.send_signal(signal.SIGTERM)
        assert process.wait(END_S) == 128 + signal.SIGTERM


def test_a_function_that_never_returns_does_not_keep_the_process() -> None:
    with FakeExecutor() as fake, program(fake, drain_s=0.3) as process:
        connection = fake.connection()
        connection.welcome()
        connection.task(1, 1)
        began(process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(END_S) == 1


def test_a_refusal_is_one_line_and_a_code() -> None:
    with FakeExecutor() as fake:
        fake.refusals.append((grpc.StatusCode.PERMISSION_DENIED, "not you"))
        with program(fake) as process:
            assert process.wait(END_S) == 6
            assert process.stderr is not None
            text = process.stderr.read()
        assert "PERMISSION_DENIED: not you" in text
        assert "Traceback" not in text


def test_several_workers_have_credit_of_their_own_and_end_together() -> None:
    with FakeExecutor() as fake, program(fake, text=SEVERAL) as process:
        connections = [fake.connection(), fake.connection()]
        for connection in connections:
            connection.welcome()
        shown = {one.hello.components[0].name: one.hello.credit for one in connections}
        assert shown == {"p.fast": 64, "p.slow": 2}
        for connection in connections:
            connection.task(1, 0)
            assert connection.output(1) == connection.hello.components[0].name
        process.send_signal(signal.SIGTERM)
        assert process.wait(END_S) == 0
        assert process.stdout is not None
        assert sorted(process.stdout) == ["closed p.fast\n", "closed p.slow\n"]


def test_the_first_worker_that_is_refused_ends_the_others() -> None:
    with FakeExecutor() as fake:
        fake.refusals.append((grpc.StatusCode.PERMISSION_DENIED, "not you"))
        with program(fake, text=SEVERAL) as process:
            assert process.wait(END_S) == 6
            assert process.stderr is not None
            assert "Traceback" not in process.stderr.read()
