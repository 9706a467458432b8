"""Servers that send much of what is small, or what is deep: no task but their own has to wait."""

import asyncio
import threading
from typing import Any

import pytest
from google.protobuf import any_pb2, descriptor_pool, json_format

from bend import TerminalError
from bend_executors.grpc import GrpcComponent, Options, component
from bend_executors.grpc.component import SMALL_BYTES, Shape
from bend_executors.grpc.descriptors import Method
from bend_executors.reach import Allowance
from tests.components.calls import Call, call
from tests.components.grpc_server import Shop, serving

WATCH = "shop.v1.Shop/Watch"


def watch(**inputs: Any) -> Call:
    """Let the shop send a stream."""

    async def use() -> Call:
        async with serving(Shop()) as port:
            made = GrpcComponent(Options(allow=Allowance(["127.0.0.0/8"])))
            values = {"target": f"127.0.0.1:{port}", "method": WATCH, "tls": False}
            try:
                return await call(made.invoke, values | inputs)
            finally:
                await made.close()

    return asyncio.run(use())


def test_the_messages_of_one_output_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty messages have no bytes that a limit could count."""
    monkeypatch.setattr(component, "PIECES_KEPT_MAX", 3)
    assert len(watch(body={"amountCents": 3}).output) == 3
    assert watch(body={"amountCents": 4}, collect="count").output == 4
    with pytest.raises(TerminalError) as caught:
        watch(body={"amountCents": 4})
    assert caught.value.reason == "RESPONSE_TOO_LARGE"


def test_large_messages_leave_the_loop_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[bool] = []
    real = json_format.MessageToDict

    def noted(*given: Any, **named: Any) -> Any:
        threads.append(threading.current_thread() is threading.main_thread())
        return real(*given, **named)

    monkeypatch.setattr(json_format, "MessageToDict", noted)
    for size in (10, SMALL_BYTES):
        made = watch(body={"amountCents": 1, "note": "A" * size * 4})
        assert len(made.output[0]["note"]) == size * 4
    assert threads == [True, False]


def test_messages_wrapped_without_end_are_refused() -> None:
    """An Any in an Any: each is parsed by itself, so the parser's bound on depth never holds."""
    wrapped = any_pb2.Any()
    for _ in range(2000):
        outer = any_pb2.Any()
        outer.Pack(wrapped)
        wrapped = outer

    async def use() -> Any:
        one = component.Call("m", {}, [], Shape(False, False, 1 << 20, "all"), 1.0)
        method = Method("/m", None, any_pb2.Any, streams=False, pool=descriptor_pool.Default())
        return one._plain(wrapped, method)

    with pytest.raises(TerminalError) as caught:
        asyncio.run(use())
    assert caught.value.reason == "INVALID_RESPONSE"
