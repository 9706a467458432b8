import datetime

from bend.v1 import failure_pb2 as _failure_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Execution(_message.Message):
    __slots__ = ("execution_id", "namespace", "workflow", "revision", "run", "status", "labels", "input", "output", "error", "start_time", "finish_time", "duration_ms", "waiting", "parent_execution_id", "pause_reason", "rerun_of", "concurrency_key")
    class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATUS_UNSPECIFIED: _ClassVar[Execution.Status]
        PENDING: _ClassVar[Execution.Status]
        RUNNING: _ClassVar[Execution.Status]
        PAUSED: _ClassVar[Execution.Status]
        COMPLETED: _ClassVar[Execution.Status]
        FAILED: _ClassVar[Execution.Status]
        CANCELLED: _ClassVar[Execution.Status]
        TIMED_OUT: _ClassVar[Execution.Status]
    STATUS_UNSPECIFIED: Execution.Status
    PENDING: Execution.Status
    RUNNING: Execution.Status
    PAUSED: Execution.Status
    COMPLETED: Execution.Status
    FAILED: Execution.Status
    CANCELLED: Execution.Status
    TIMED_OUT: Execution.Status
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    FINISH_TIME_FIELD_NUMBER: _ClassVar[int]
    DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    PARENT_EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    PAUSE_REASON_FIELD_NUMBER: _ClassVar[int]
    RERUN_OF_FIELD_NUMBER: _ClassVar[int]
    CONCURRENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    execution_id: str
    namespace: str
    workflow: str
    revision: int
    run: int
    status: Execution.Status
    labels: _containers.ScalarMap[str, str]
    input: bytes
    output: bytes
    error: _failure_pb2.Failure
    start_time: _timestamp_pb2.Timestamp
    finish_time: _timestamp_pb2.Timestamp
    duration_ms: int
    waiting: _containers.RepeatedScalarFieldContainer[str]
    parent_execution_id: str
    pause_reason: str
    rerun_of: str
    concurrency_key: str
    def __init__(self, execution_id: _Optional[str] = ..., namespace: _Optional[str] = ..., workflow: _Optional[str] = ..., revision: _Optional[int] = ..., run: _Optional[int] = ..., status: _Optional[_Union[Execution.Status, str]] = ..., labels: _Optional[_Mapping[str, str]] = ..., input: _Optional[bytes] = ..., output: _Optional[bytes] = ..., error: _Optional[_Union[_failure_pb2.Failure, _Mapping]] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., finish_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., duration_ms: _Optional[int] = ..., waiting: _Optional[_Iterable[str]] = ..., parent_execution_id: _Optional[str] = ..., pause_reason: _Optional[str] = ..., rerun_of: _Optional[str] = ..., concurrency_key: _Optional[str] = ...) -> None: ...

class TaskRun(_message.Message):
    __slots__ = ("task", "item", "status", "attempt", "iteration", "output", "error", "worker", "start_time", "finish_time", "run_id", "chunk_count", "waiting", "child_execution_id", "item_count", "phase")
    class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATUS_UNSPECIFIED: _ClassVar[TaskRun.Status]
        PENDING: _ClassVar[TaskRun.Status]
        SCHEDULED: _ClassVar[TaskRun.Status]
        RUNNING: _ClassVar[TaskRun.Status]
        WAITING: _ClassVar[TaskRun.Status]
        COMPLETED: _ClassVar[TaskRun.Status]
        FAILED: _ClassVar[TaskRun.Status]
        SKIPPED: _ClassVar[TaskRun.Status]
        CANCELLED: _ClassVar[TaskRun.Status]
        TIMED_OUT: _ClassVar[TaskRun.Status]
    STATUS_UNSPECIFIED: TaskRun.Status
    PENDING: TaskRun.Status
    SCHEDULED: TaskRun.Status
    RUNNING: TaskRun.Status
    WAITING: TaskRun.Status
    COMPLETED: TaskRun.Status
    FAILED: TaskRun.Status
    SKIPPED: TaskRun.Status
    CANCELLED: TaskRun.Status
    TIMED_OUT: TaskRun.Status
    TASK_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    TRY_FIELD_NUMBER: _ClassVar[int]
    ITERATION_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    FINISH_TIME_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    CHUNK_COUNT_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    CHILD_EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    ITEM_COUNT_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    task: str
    item: int
    status: TaskRun.Status
    attempt: int
    iteration: int
    output: bytes
    error: _failure_pb2.Failure
    worker: str
    start_time: _timestamp_pb2.Timestamp
    finish_time: _timestamp_pb2.Timestamp
    run_id: str
    chunk_count: int
    waiting: str
    child_execution_id: str
    item_count: int
    phase: str
    def __init__(self, task: _Optional[str] = ..., item: _Optional[int] = ..., status: _Optional[_Union[TaskRun.Status, str]] = ..., attempt: _Optional[int] = ..., iteration: _Optional[int] = ..., output: _Optional[bytes] = ..., error: _Optional[_Union[_failure_pb2.Failure, _Mapping]] = ..., worker: _Optional[str] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., finish_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., run_id: _Optional[str] = ..., chunk_count: _Optional[int] = ..., waiting: _Optional[str] = ..., child_execution_id: _Optional[str] = ..., item_count: _Optional[int] = ..., phase: _Optional[str] = ..., **kwargs) -> None: ...

class WatchEvent(_message.Message):
    __slots__ = ("cursor", "time", "type", "task", "item", "attempt", "run_id", "status", "data", "terminal")
    class Type(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        TYPE_UNSPECIFIED: _ClassVar[WatchEvent.Type]
        EXECUTION: _ClassVar[WatchEvent.Type]
        TASK: _ClassVar[WatchEvent.Type]
        PARTIAL: _ClassVar[WatchEvent.Type]
        LOG: _ClassVar[WatchEvent.Type]
        GAP: _ClassVar[WatchEvent.Type]
        KEEPALIVE: _ClassVar[WatchEvent.Type]
    TYPE_UNSPECIFIED: WatchEvent.Type
    EXECUTION: WatchEvent.Type
    TASK: WatchEvent.Type
    PARTIAL: WatchEvent.Type
    LOG: WatchEvent.Type
    GAP: WatchEvent.Type
    KEEPALIVE: WatchEvent.Type
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    TERMINAL_FIELD_NUMBER: _ClassVar[int]
    cursor: str
    time: _timestamp_pb2.Timestamp
    type: WatchEvent.Type
    task: str
    item: int
    attempt: int
    run_id: str
    status: str
    data: bytes
    terminal: bool
    def __init__(self, cursor: _Optional[str] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., type: _Optional[_Union[WatchEvent.Type, str]] = ..., task: _Optional[str] = ..., item: _Optional[int] = ..., attempt: _Optional[int] = ..., run_id: _Optional[str] = ..., status: _Optional[str] = ..., data: _Optional[bytes] = ..., terminal: _Optional[bool] = ...) -> None: ...
