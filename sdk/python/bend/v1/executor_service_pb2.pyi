from bend.v1 import component_pb2 as _component_pb2
from bend.v1 import failure_pb2 as _failure_pb2
from bend.v1 import pool_pb2 as _pool_pb2
from buf.validate import validate_pb2 as _validate_pb2
from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ListPoolsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListPoolsResponse(_message.Message):
    __slots__ = ("pools", "next_page_token")
    POOLS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    pools: _containers.RepeatedCompositeFieldContainer[_pool_pb2.PoolStatus]
    next_page_token: str
    def __init__(self, pools: _Optional[_Iterable[_Union[_pool_pb2.PoolStatus, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetPoolStatsRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetPoolStatsResponse(_message.Message):
    __slots__ = ("status", "stats")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    STATS_FIELD_NUMBER: _ClassVar[int]
    status: _pool_pb2.PoolStatus
    stats: _pool_pb2.PoolStats
    def __init__(self, status: _Optional[_Union[_pool_pb2.PoolStatus, _Mapping]] = ..., stats: _Optional[_Union[_pool_pb2.PoolStats, _Mapping]] = ...) -> None: ...

class PutPoolRequest(_message.Message):
    __slots__ = ("name", "pool")
    NAME_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    name: str
    pool: _pool_pb2.Pool
    def __init__(self, name: _Optional[str] = ..., pool: _Optional[_Union[_pool_pb2.Pool, _Mapping]] = ...) -> None: ...

class PutPoolResponse(_message.Message):
    __slots__ = ("pool", "changed")
    POOL_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    pool: _pool_pb2.Pool
    changed: bool
    def __init__(self, pool: _Optional[_Union[_pool_pb2.Pool, _Mapping]] = ..., changed: _Optional[bool] = ...) -> None: ...

class ScalePoolRequest(_message.Message):
    __slots__ = ("name", "instances")
    NAME_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    name: str
    instances: int
    def __init__(self, name: _Optional[str] = ..., instances: _Optional[int] = ...) -> None: ...

class ScalePoolResponse(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: _pool_pb2.PoolStatus
    def __init__(self, status: _Optional[_Union[_pool_pb2.PoolStatus, _Mapping]] = ...) -> None: ...

class DeletePoolRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class DeletePoolResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ConnectRequest(_message.Message):
    __slots__ = ("hello", "results", "chunks", "heartbeat", "drain")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    DRAIN_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    results: TaskResultBatch
    chunks: ChunkBatch
    heartbeat: Heartbeat
    drain: Drain
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., results: _Optional[_Union[TaskResultBatch, _Mapping]] = ..., chunks: _Optional[_Union[ChunkBatch, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., drain: _Optional[_Union[Drain, _Mapping]] = ...) -> None: ...

class ConnectResponse(_message.Message):
    __slots__ = ("welcome", "tasks", "cancels", "go_away")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    CANCELS_FIELD_NUMBER: _ClassVar[int]
    GO_AWAY_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    tasks: TaskBatch
    cancels: CancelBatch
    go_away: GoAway
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., tasks: _Optional[_Union[TaskBatch, _Mapping]] = ..., cancels: _Optional[_Union[CancelBatch, _Mapping]] = ..., go_away: _Optional[_Union[GoAway, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("protocol_version", "instance_id", "sdk", "components", "credit", "held", "rotates", "pool_instance")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    SDK_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    ROTATES_FIELD_NUMBER: _ClassVar[int]
    POOL_INSTANCE_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    instance_id: str
    sdk: str
    components: _containers.RepeatedCompositeFieldContainer[_component_pb2.ComponentContract]
    credit: int
    held: _containers.RepeatedCompositeFieldContainer[HeldTask]
    rotates: bool
    pool_instance: str
    def __init__(self, protocol_version: _Optional[int] = ..., instance_id: _Optional[str] = ..., sdk: _Optional[str] = ..., components: _Optional[_Iterable[_Union[_component_pb2.ComponentContract, _Mapping]]] = ..., credit: _Optional[int] = ..., held: _Optional[_Iterable[_Union[HeldTask, _Mapping]]] = ..., rotates: _Optional[bool] = ..., pool_instance: _Optional[str] = ...) -> None: ...

class HeldTask(_message.Message):
    __slots__ = ("run_id", "resume_token")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    run_id: int
    resume_token: bytes
    def __init__(self, run_id: _Optional[int] = ..., resume_token: _Optional[bytes] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("executor", "heartbeat_interval_ms", "kept", "payload_bytes_max")
    EXECUTOR_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    executor: str
    heartbeat_interval_ms: int
    kept: _containers.RepeatedScalarFieldContainer[int]
    payload_bytes_max: int
    def __init__(self, executor: _Optional[str] = ..., heartbeat_interval_ms: _Optional[int] = ..., kept: _Optional[_Iterable[int]] = ..., payload_bytes_max: _Optional[int] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("run_ids",)
    RUN_IDS_FIELD_NUMBER: _ClassVar[int]
    run_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, run_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class Drain(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GoAway(_message.Message):
    __slots__ = ("reason", "grace_ms")
    REASON_FIELD_NUMBER: _ClassVar[int]
    GRACE_MS_FIELD_NUMBER: _ClassVar[int]
    reason: str
    grace_ms: int
    def __init__(self, reason: _Optional[str] = ..., grace_ms: _Optional[int] = ...) -> None: ...

class TaskBatch(_message.Message):
    __slots__ = ("tasks",)
    TASKS_FIELD_NUMBER: _ClassVar[int]
    tasks: _containers.RepeatedCompositeFieldContainer[Task]
    def __init__(self, tasks: _Optional[_Iterable[_Union[Task, _Mapping]]] = ...) -> None: ...

class Task(_message.Message):
    __slots__ = ("run_id", "component", "input", "execution_id", "task", "item", "attempt", "iteration", "timeout_ms", "heartbeat_timeout_ms", "resume_token", "traceparent", "namespace")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    ITERATION_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    run_id: int
    component: int
    input: bytes
    execution_id: str
    task: str
    item: int
    attempt: int
    iteration: int
    timeout_ms: int
    heartbeat_timeout_ms: int
    resume_token: bytes
    traceparent: str
    namespace: str
    def __init__(self, run_id: _Optional[int] = ..., component: _Optional[int] = ..., input: _Optional[bytes] = ..., execution_id: _Optional[str] = ..., task: _Optional[str] = ..., item: _Optional[int] = ..., attempt: _Optional[int] = ..., iteration: _Optional[int] = ..., timeout_ms: _Optional[int] = ..., heartbeat_timeout_ms: _Optional[int] = ..., resume_token: _Optional[bytes] = ..., traceparent: _Optional[str] = ..., namespace: _Optional[str] = ...) -> None: ...

class TaskResultBatch(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[TaskResult]
    def __init__(self, results: _Optional[_Iterable[_Union[TaskResult, _Mapping]]] = ...) -> None: ...

class TaskResult(_message.Message):
    __slots__ = ("run_id", "output", "failure", "cancelled", "chunk_count", "duration_us")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    CHUNK_COUNT_FIELD_NUMBER: _ClassVar[int]
    DURATION_US_FIELD_NUMBER: _ClassVar[int]
    run_id: int
    output: bytes
    failure: _failure_pb2.Failure
    cancelled: Cancelled
    chunk_count: int
    duration_us: int
    def __init__(self, run_id: _Optional[int] = ..., output: _Optional[bytes] = ..., failure: _Optional[_Union[_failure_pb2.Failure, _Mapping]] = ..., cancelled: _Optional[_Union[Cancelled, _Mapping]] = ..., chunk_count: _Optional[int] = ..., duration_us: _Optional[int] = ...) -> None: ...

class Cancelled(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ChunkBatch(_message.Message):
    __slots__ = ("chunks",)
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    chunks: _containers.RepeatedCompositeFieldContainer[Chunk]
    def __init__(self, chunks: _Optional[_Iterable[_Union[Chunk, _Mapping]]] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("run_id", "index", "kind", "data", "time_us")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Chunk.Kind]
        PARTIAL: _ClassVar[Chunk.Kind]
        LOG: _ClassVar[Chunk.Kind]
    KIND_UNSPECIFIED: Chunk.Kind
    PARTIAL: Chunk.Kind
    LOG: Chunk.Kind
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    TIME_US_FIELD_NUMBER: _ClassVar[int]
    run_id: int
    index: int
    kind: Chunk.Kind
    data: bytes
    time_us: int
    def __init__(self, run_id: _Optional[int] = ..., index: _Optional[int] = ..., kind: _Optional[_Union[Chunk.Kind, str]] = ..., data: _Optional[bytes] = ..., time_us: _Optional[int] = ...) -> None: ...

class CancelBatch(_message.Message):
    __slots__ = ("run_ids", "grace_ms")
    RUN_IDS_FIELD_NUMBER: _ClassVar[int]
    GRACE_MS_FIELD_NUMBER: _ClassVar[int]
    run_ids: _containers.RepeatedScalarFieldContainer[int]
    grace_ms: int
    def __init__(self, run_ids: _Optional[_Iterable[int]] = ..., grace_ms: _Optional[int] = ...) -> None: ...
