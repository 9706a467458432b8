"""Requests that are right but for a few fields: no value makes an RPC fail by our own fault."""

import random
from collections.abc import Callable

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from bend_server.registry.registry import Registry
from bend_server.rpc.engine_service import engine_service
from bend_server.rpc.registry_service import registry_service
from tests.kit.certificates import TestAuthority
from tests.kit.loops import in_loop
from tests.rpc.door import channel, serving
from tests.rpc.engine_room import CHAIN, USER, engine_room
from tests.rpc.test_every_rpc import FAULTS, METHODS

SEED = 2
REQUESTS = 50
HOSTILE = 0.25
ABSENT = 0.3
DEPTH_MAX = 4
ANSWER_S = 30.0
WAIT_S = 0.3
# They may well wait for what never ends here.
WAITING = ("RunWorkflow", "WaitExecution", "WatchExecution", "WatchExecutions")
DEEP = b"[" * 100_000
TEXTS = (
    "", "\0", "a\0b", "x" * 300, "x" * 70_000, "\u2028\U0001f600\uffff", "../../etc/passwd", "%00",
    "' OR 1=1 --", "-1", "9" * 40, "{{secrets.X}}", "=", "*", "1.0.0", "default",
    "ORroc1nvH-bfWzE3OTU2NjEzNjcxNTk1ODAsOTEzNjIyNDUzMzM0MjkwMzM3XQ",
)  # fmt: skip
DOCUMENTS = (
    b"", b"\0", b"{}", b"[]", b"null", b'{"n":1}', b'{"n":' + b"9" * 400 + b"}", b"\xff\xfe",
    b'{"a":1,"a":2}', DEEP, b'{"a":"\\ud800"}', b'{"a":"\\u0000"}', b'{"n":1e999}', b'{"n":NaN}',
    b"name: &a [*a]", b"&a [&b [*a,*b]]", b"!!python/object:os.system x", b"x: " * 5000,
    b'{"name":"q","tasks":[{"id":"a","type":"wait","duration":"1e9d"}]}',
    b'{"type":"object","properties":{"a":{"pattern":"(a+)+$"}}}', b'{"$ref":"http://[::1]:1/x"}',
)  # fmt: skip
NUMBERS = {
    FieldDescriptor.CPPTYPE_INT32: (0, 1, -1, 2**31 - 1, -(2**31), 1001),
    FieldDescriptor.CPPTYPE_INT64: (0, 1, -1, 2**63 - 1, -(2**63), 10**18),
    FieldDescriptor.CPPTYPE_UINT32: (0, 1, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 1, 2**64 - 1),
    FieldDescriptor.CPPTYPE_DOUBLE: (0.0, -1.0, float("nan"), float("inf"), 1e308),
    FieldDescriptor.CPPTYPE_FLOAT: (0.0, -1.0, float("nan"), float("inf")),
    FieldDescriptor.CPPTYPE_BOOL: (False, True),
    FieldDescriptor.CPPTYPE_ENUM: (0, 1, 2, 99, -1, 2**31 - 1),
}


class Hostile:
    """Makes requests; what stands in `usual` is mostly put where a field of that name is."""

    def __init__(self, chance: random.Random, usual: dict[str, Callable[[], object]]) -> None:
        self._chance = chance
        self._usual = usual

    def request(self, method: str) -> Message:
        """Return a request of a method."""
        return self._fill(GetMessageClass(METHODS[method].input_type)(), 0)

    def _fill(self, message: Message, depth: int) -> Message:
        for field in message.DESCRIPTOR.fields:
            if self._chance.random() < ABSENT:
                continue
            try:
                self._set(message, field, depth)
            except (ValueError, TypeError):
                continue  # the stubs themselves do not take it
        return message

    def _set(self, message: Message, field: FieldDescriptor, depth: int) -> None:
        held = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            held[str(self._text())] = str(self._text())
        elif field.message_type is None:
            value = self._value(field)
            held.extend([value]) if field.is_repeated else setattr(message, field.name, value)
        elif depth < DEPTH_MAX:
            inner = held.add() if field.is_repeated else held
            inner.SetInParent()
            self._fill(inner, depth + 1)

    def _value(self, field: FieldDescriptor) -> object:
        usual = self._usual.get(field.name)
        if usual is not None and self._chance.random() > HOSTILE:
            return usual()
        if field.type == FieldDescriptor.TYPE_STRING:
            return self._text()
        if field.type == FieldDescriptor.TYPE_BYTES:
            return self._chance.choice(DOCUMENTS)
        return self._chance.choice(NUMBERS[field.cpp_type])

    def _text(self) -> object:
        return self._chance.choice(TEXTS)


async def fault_of(target: grpc.aio.Channel, method: str, request: Message) -> str:
    """Call a method; return its code and text when it ends by our fault, else nothing."""
    described = METHODS[method]
    make = target.unary_stream if described.server_streaming else target.unary_unary
    call = make(
        method,
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=GetMessageClass(described.output_type).FromString,
    )(request, metadata=USER, timeout=WAIT_S if described.name in WAITING else ANSWER_S)
    try:
        if described.server_streaming:
            async for _ in call:
                break
            call.cancel()
        else:
            await call
    except grpc.aio.AioRpcError as error:
        late = error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        if error.code() in FAULTS or (late and described.name not in WAITING):
            return f"{error.code().name}: {error.details()}"
    return ""


@pytest.mark.parametrize("method", sorted(METHODS))
@in_loop
async def test_no_value_of_a_field_is_our_fault(authority: TestAuthority, method: str) -> None:
    chance = random.Random(f"{SEED} {method}")
    async with engine_room(authority) as it:
        public, internal = await it.started()
        await it.engine.finish(internal)
        usual: dict[str, Callable[[], object]] = {
            "execution_id": lambda: public,
            "execution_ids": lambda: public,
            "workflow": lambda: "chain",
            "name": lambda: chance.choice(["chain", "test.echo"]),
            "document": lambda: CHAIN,
            "parameters": lambda: b'{"text":"x"}',
            "version": lambda: "1.0.0",
            "reason": lambda: "because",
            "task": lambda: "first",
            "page_size": lambda: 10,
            "page_token": str,
            "cursor": str,
            "seconds": int,
            "nanos": lambda: 1_000_000,
            "input_schema": lambda: b'{"type":"object"}',
        }
        hostile = Hostile(chance, usual)
        registry = Registry(it.stores.registry, it.queue, it.clock)
        services = [engine_service(it.rooms()), registry_service(registry)]
        async with (
            serving(authority, services) as server,
            channel(authority, server.port, "gateway") as target,
        ):
            for number in range(REQUESTS):
                request = hostile.request(method)
                fault = await fault_of(target, method, request)
                assert not fault, (SEED, number, fault, str(request)[:2000])
