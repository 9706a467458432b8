"""Frames are written by hand: they must be what protobuf's own classes would write."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from bend.internal.v1 import frames_pb2
from bend_server.core.effects import Ready
from bend_server.core.machine import begin
from bend_server.core.model import ExecutionStatus
from bend_server.core.plan import Hole, HolePart, Rendered
from bend_server.engine.frames import MILLISECONDS_MAX, FrameBuilder, TaskHeads, varint
from tests.engine.house import House, command, finish, housed
from tests.kit.plans import Task, make_plan, start_row

_TEXT = st.text(max_size=40)
_PART = st.one_of(
    _TEXT.map(lambda text: HolePart(text=text)),
    _TEXT.map(lambda name: HolePart(secret=name)),
    st.tuples(_TEXT, st.integers(min_value=0, max_value=1 << 40)).map(
        lambda blob: HolePart(blob=blob[0], blob_bytes=blob[1])
    ),
)
_HOLES = st.lists(
    st.tuples(_TEXT, st.lists(_PART, max_size=3).map(tuple)).map(lambda hole: Hole(*hole)),
    max_size=3,
)


@settings(max_examples=200)
@given(
    execution=st.integers(min_value=0, max_value=(1 << 63) - 1),
    item=st.integers(min_value=-1, max_value=20_000),
    try_=st.integers(min_value=1, max_value=1 << 31),
    attempt=st.integers(min_value=1, max_value=1000),
    iteration=st.integers(min_value=0, max_value=1000),
    since_us=st.integers(min_value=0, max_value=1 << 52),
    data=st.binary(max_size=10_000),
    holes=_HOLES,
    name=_TEXT,
    trace=_TEXT,
    timeout_us=st.integers(min_value=1, max_value=1 << 50),
)
def test_frames_are_what_protobuf_writes(
    execution: int,
    item: int,
    try_: int,
    attempt: int,
    iteration: int,
    since_us: int,
    data: bytes,
    holes: list[Hole],
    name: str,
    trace: str,
    timeout_us: int,
) -> None:
    plan = make_plan([Task(id="a"), Task(id="b", timeout_us=timeout_us)])
    row = start_row(plan, execution=execution)._replace(public_id=name, trace=trace)
    state = begin(plan, row)
    frame = FrameBuilder(TaskHeads(), "ns", "0123456789abcdef", 3)
    ready = Ready(state, 1, item, try_, attempt, iteration)
    for _ in range(2):
        frame.add((ready, since_us), Rendered(data, tuple(holes)))
    message = frames_pb2.TaskFrame.FromString(frame.data())
    assert (message.namespace, message.group, message.slot) == ("ns", "0123456789abcdef", 3)
    assert len(message.tasks) == 2
    wanted = frames_pb2.QueuedTask(
        execution=execution,
        task=1,
        item=item + 1,
        attempt=attempt,
        iteration=iteration,
        input=data,
        schedule_deadline_us=since_us + plan.tasks[1].schedule_timeout_us,
        timeout_ms=min(timeout_us // 1000, MILLISECONDS_MAX),
        heartbeat_timeout_ms=30_000,
        execution_id=name,
        task_id="b",
        traceparent=trace,
        component="test.echo",
        **{"try": try_},
    )
    for hole in holes:
        one = wanted.holes.add(path=hole.path)
        for part in hole.parts:
            if part.secret is not None:
                one.parts.add(secret=part.secret)
            elif part.blob is not None:
                one.parts.add(blob=frames_pb2.BlobRef(key=part.blob, size_bytes=part.blob_bytes))
            else:
                one.parts.add(text=part.text)
    assert message.tasks[0] == wanted
    assert message.tasks[1] == wanted


def test_heads_belong_to_their_plan() -> None:
    heads = TaskHeads()
    plan = make_plan([Task(id="a")])
    other = replace(plan.tasks[0], id="renamed")
    assert heads.head(plan.tasks[0]) != heads.head(other)
    assert heads.head(plan.tasks[0]) is heads.head(plan.tasks[0])


def test_numbers_of_every_length() -> None:
    assert varint(0) == b"\x00"
    assert varint(127) == b"\x7f"
    assert varint(128) == b"\x80\x01"
    assert len(varint((1 << 63) - 1)) == 9


@housed
async def test_what_no_frame_can_carry_fails_alone(house: House) -> None:
    engine = await house.engine()
    await house.executor()
    plan = await house.workflow(make_plan([Task(id="a")]))
    outcomes = await engine.start_executions(
        [command(plan), command(plan, trace="\ud800"), command(plan)]
    )
    ends = [await finish(engine, outcome.execution) for outcome in outcomes]
    assert ends == [ExecutionStatus.COMPLETED, ExecutionStatus.FAILED, ExecutionStatus.COMPLETED]
    assert "memory_dropped" not in engine.counters
