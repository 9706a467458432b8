"""Circuits: a host that is down is left alone, and nobody closes it to others."""

import asyncio
import logging
from typing import Any

import pytest

from bend import RetryableError, TerminalError
from bend_executors.http.breaker import CLOSED, HALF_OPEN, OPEN, Breakers, Circuit
from bend_executors.http.options import BreakerOptions
from tests.components.calls import Call, call
from tests.components.http_server import Asked, Reply, framed, json_reply, opened, serving

QUICK = BreakerOptions(failures=3, open_s=10.0, open_s_max=30.0)


def fail(circuit: Circuit, now: float, times: int = 1) -> None:
    for _ in range(times):
        circuit.enter(QUICK, now)
        circuit.failed(QUICK, now)


def test_a_circuit_opens_probes_and_closes() -> None:
    circuit = Circuit("a:80")
    fail(circuit, 0.0, 2)
    assert circuit.state == CLOSED
    fail(circuit, 0.0)
    assert circuit.state == OPEN
    with pytest.raises(RetryableError) as caught:
        circuit.enter(QUICK, 4.0)
    assert caught.value.reason == "CIRCUIT_OPEN"
    assert caught.value.retry_after_s == 6.0
    assert caught.value.details == {"host": "a:80", "state": "open", "failures": 3}
    circuit.enter(QUICK, 10.0)
    assert circuit.state == HALF_OPEN
    with pytest.raises(RetryableError):
        circuit.enter(QUICK, 10.0)
    circuit.succeeded(QUICK, 11.0)
    assert circuit.state == CLOSED
    circuit.enter(QUICK, 11.0)


def test_a_failed_probe_doubles_the_pause_up_to_its_bound() -> None:
    circuit = Circuit("a:80")
    fail(circuit, 0.0, 3)
    now, pauses = 0.0, []
    for _ in range(4):
        now += circuit.wait_s
        pauses.append(circuit.wait_s)
        fail(circuit, now)
    assert pauses == [10.0, 20.0, 30.0, 30.0]


def test_a_cancelled_probe_gives_its_turn_back() -> None:
    circuit = Circuit("a:80")
    fail(circuit, 0.0, 3)
    circuit.enter(QUICK, 10.0)
    circuit.left()
    circuit.enter(QUICK, 10.0)


def test_few_failures_among_many_calls_open_nothing() -> None:
    circuit = Circuit("a:80")
    for _ in range(100):
        circuit.succeeded(QUICK, 0.0)
    fail(circuit, 1.0, 50)
    assert circuit.state == CLOSED
    fail(circuit, 100.0, 2)
    assert circuit.state == CLOSED, "the window began anew"


def test_circuits_are_bounded_and_open_ones_stay_longest() -> None:
    breakers = Breakers(BreakerOptions(hosts_max=3, failures=1), lambda: 0.0)
    bad = breakers.circuit("default", "bad:80")
    bad.failed(breakers.options, 0.0)
    for number in range(100):
        breakers.circuit("default", f"h{number}:80")
    assert len(breakers.stats()) == 3
    assert breakers.circuit("default", "bad:80") is bad


def test_a_host_that_is_down_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    asked: list[str] = []

    def handler(one: Asked) -> Reply:
        asked.append(one.path)
        return 503, {}, b""

    async def reason(http: Any, url: str, namespace: str = "default") -> str:
        try:
            await call(http.request, {"url": url}, namespace=namespace)
        except (RetryableError, TerminalError) as error:
            return error.reason
        return ""

    async def use() -> None:
        async with serving(framed(handler)) as port, opened(breaker=QUICK) as http:
            url = f"http://127.0.0.1:{port}/"
            found = [await reason(http, url) for _ in range(5)]
            assert found == ["HTTP_503"] * 3 + ["CIRCUIT_OPEN"] * 2
            assert len(asked) == 3
            assert await reason(http, url, "other") == "HTTP_503", "its circuit is its own"
            state = http.stats()["circuits"]
            assert state[f"default 127.0.0.1:{port}"]["state"] == OPEN
            assert state[f"other 127.0.0.1:{port}"]["state"] == CLOSED

    with caplog.at_level(logging.WARNING, logger="bend.http"):
        asyncio.run(use())
    assert "closed -> open" in caplog.text


def test_errors_of_one_tasks_input_do_not_open_the_circuit() -> None:
    async def use(code: int) -> None:
        async with (
            serving(framed(lambda _: json_reply(0, code))) as port,
            opened(breaker=QUICK) as http,
        ):
            for _ in range(10):
                with pytest.raises((RetryableError, TerminalError)) as caught:
                    await call(http.request, {"url": f"http://127.0.0.1:{port}/"})
                assert caught.value.reason == f"HTTP_{code}"  # type: ignore[union-attr]

    for code in (404, 429, 500):
        asyncio.run(use(code))


def test_a_host_that_never_answers_is_left_alone() -> None:
    """Each call would hold a connection and a task for its whole timeout."""

    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async def use() -> None:
        async with serving(silent) as port, opened(breaker=QUICK) as http:
            values = {"url": f"http://127.0.0.1:{port}/", "timeout_total": "30ms"}
            reasons = []
            for _ in range(4):
                with pytest.raises(RetryableError) as caught:
                    await call(http.request, values, sink=Call())
                reasons.append(caught.value.reason)
            assert reasons == ["HTTP_TIMEOUT"] * 3 + ["CIRCUIT_OPEN"]

    asyncio.run(use())
