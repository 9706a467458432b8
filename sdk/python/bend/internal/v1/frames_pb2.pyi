from bend.v1 import failure_pb2 as _failure_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TaskFrame(_message.Message):
    __slots__ = ("namespace", "group", "slot", "tasks")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    group: str
    slot: int
    tasks: _containers.RepeatedCompositeFieldContainer[QueuedTask]
    def __init__(self, namespace: _Optional[str] = ..., group: _Optional[str] = ..., slot: _Optional[int] = ..., tasks: _Optional[_Iterable[_Union[QueuedTask, _Mapping]]] = ...) -> None: ...

class QueuedTask(_message.Message):
    __slots__ = ("execution", "task", "item", "attempt", "iteration", "input", "holes", "schedule_deadline_us", "timeout_ms", "heartbeat_timeout_ms", "execution_id", "task_id", "traceparent", "component")
    EXECUTION_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    TRY_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    ITERATION_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    HOLES_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_DEADLINE_US_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    execution: int
    task: int
    item: int
    attempt: int
    iteration: int
    input: bytes
    holes: _containers.RepeatedCompositeFieldContainer[Hole]
    schedule_deadline_us: int
    timeout_ms: int
    heartbeat_timeout_ms: int
    execution_id: str
    task_id: str
    traceparent: str
    component: str
    def __init__(self, execution: _Optional[int] = ..., task: _Optional[int] = ..., item: _Optional[int] = ..., attempt: _Optional[int] = ..., iteration: _Optional[int] = ..., input: _Optional[bytes] = ..., holes: _Optional[_Iterable[_Union[Hole, _Mapping]]] = ..., schedule_deadline_us: _Optional[int] = ..., timeout_ms: _Optional[int] = ..., heartbeat_timeout_ms: _Optional[int] = ..., execution_id: _Optional[str] = ..., task_id: _Optional[str] = ..., traceparent: _Optional[str] = ..., component: _Optional[str] = ..., **kwargs) -> None: ...

class Hole(_message.Message):
    __slots__ = ("path", "parts")
    PATH_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    path: str
    parts: _containers.RepeatedCompositeFieldContainer[HolePart]
    def __init__(self, path: _Optional[str] = ..., parts: _Optional[_Iterable[_Union[HolePart, _Mapping]]] = ...) -> None: ...

class HolePart(_message.Message):
    __slots__ = ("text", "secret", "blob")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    BLOB_FIELD_NUMBER: _ClassVar[int]
    text: str
    secret: str
    blob: BlobRef
    def __init__(self, text: _Optional[str] = ..., secret: _Optional[str] = ..., blob: _Optional[_Union[BlobRef, _Mapping]] = ...) -> None: ...

class BlobRef(_message.Message):
    __slots__ = ("key", "size_bytes")
    KEY_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    key: str
    size_bytes: int
    def __init__(self, key: _Optional[str] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class ResultFrame(_message.Message):
    __slots__ = ("executor", "results")
    EXECUTOR_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    executor: str
    results: _containers.RepeatedCompositeFieldContainer[QueuedResult]
    def __init__(self, executor: _Optional[str] = ..., results: _Optional[_Iterable[_Union[QueuedResult, _Mapping]]] = ...) -> None: ...

class QueuedResult(_message.Message):
    __slots__ = ("execution", "task", "item", "status", "output", "blob", "failure", "run_id", "chunk_count", "worker", "started_us", "finished_us")
    class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATUS_UNSPECIFIED: _ClassVar[QueuedResult.Status]
        COMPLETED: _ClassVar[QueuedResult.Status]
        FAILED: _ClassVar[QueuedResult.Status]
        TIMED_OUT: _ClassVar[QueuedResult.Status]
        CANCELLED: _ClassVar[QueuedResult.Status]
    STATUS_UNSPECIFIED: QueuedResult.Status
    COMPLETED: QueuedResult.Status
    FAILED: QueuedResult.Status
    TIMED_OUT: QueuedResult.Status
    CANCELLED: QueuedResult.Status
    EXECUTION_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    TRY_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    BLOB_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    CHUNK_COUNT_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    STARTED_US_FIELD_NUMBER: _ClassVar[int]
    FINISHED_US_FIELD_NUMBER: _ClassVar[int]
    execution: int
    task: int
    item: int
    status: QueuedResult.Status
    output: bytes
    blob: BlobRef
    failure: _failure_pb2.Failure
    run_id: int
    chunk_count: int
    worker: str
    started_us: int
    finished_us: int
    def __init__(self, execution: _Optional[int] = ..., task: _Optional[int] = ..., item: _Optional[int] = ..., status: _Optional[_Union[QueuedResult.Status, str]] = ..., output: _Optional[bytes] = ..., blob: _Optional[_Union[BlobRef, _Mapping]] = ..., failure: _Optional[_Union[_failure_pb2.Failure, _Mapping]] = ..., run_id: _Optional[int] = ..., chunk_count: _Optional[int] = ..., worker: _Optional[str] = ..., started_us: _Optional[int] = ..., finished_us: _Optional[int] = ..., **kwargs) -> None: ...

class ChunkFrame(_message.Message):
    __slots__ = ("chunks",)
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    chunks: _containers.RepeatedCompositeFieldContainer[StoredChunk]
    def __init__(self, chunks: _Optional[_Iterable[_Union[StoredChunk, _Mapping]]] = ...) -> None: ...

class StoredChunk(_message.Message):
    __slots__ = ("execution", "task", "item", "attempt", "run_id", "index", "kind", "data", "time_us")
    EXECUTION_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    TRY_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    TIME_US_FIELD_NUMBER: _ClassVar[int]
    execution: int
    task: int
    item: int
    attempt: int
    run_id: int
    index: int
    kind: int
    data: bytes
    time_us: int
    def __init__(self, execution: _Optional[int] = ..., task: _Optional[int] = ..., item: _Optional[int] = ..., attempt: _Optional[int] = ..., run_id: _Optional[int] = ..., index: _Optional[int] = ..., kind: _Optional[int] = ..., data: _Optional[bytes] = ..., time_us: _Optional[int] = ..., **kwargs) -> None: ...
