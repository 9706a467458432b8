from bend.v1 import pool_pb2 as _pool_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TaskKey(_message.Message):
    __slots__ = ("execution", "task", "item")
    EXECUTION_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    TRY_FIELD_NUMBER: _ClassVar[int]
    execution: int
    task: int
    item: int
    def __init__(self, execution: _Optional[int] = ..., task: _Optional[int] = ..., item: _Optional[int] = ..., **kwargs) -> None: ...

class OpenKeysRequest(_message.Message):
    __slots__ = ("keys",)
    KEYS_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedCompositeFieldContainer[TaskKey]
    def __init__(self, keys: _Optional[_Iterable[_Union[TaskKey, _Mapping]]] = ...) -> None: ...

class OpenKeysResponse(_message.Message):
    __slots__ = ("states", "epoch")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[OpenKeysResponse.State]
        OPEN: _ClassVar[OpenKeysResponse.State]
        CLOSED: _ClassVar[OpenKeysResponse.State]
        NOT_MINE: _ClassVar[OpenKeysResponse.State]
    STATE_UNSPECIFIED: OpenKeysResponse.State
    OPEN: OpenKeysResponse.State
    CLOSED: OpenKeysResponse.State
    NOT_MINE: OpenKeysResponse.State
    STATES_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    states: _containers.RepeatedScalarFieldContainer[OpenKeysResponse.State]
    epoch: int
    def __init__(self, states: _Optional[_Iterable[_Union[OpenKeysResponse.State, str]]] = ..., epoch: _Optional[int] = ...) -> None: ...

class CancelNotice(_message.Message):
    __slots__ = ("keys",)
    KEYS_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedCompositeFieldContainer[TaskKey]
    def __init__(self, keys: _Optional[_Iterable[_Union[TaskKey, _Mapping]]] = ...) -> None: ...

class StartedNotice(_message.Message):
    __slots__ = ("keys", "workers")
    KEYS_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedCompositeFieldContainer[TaskKey]
    workers: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, keys: _Optional[_Iterable[_Union[TaskKey, _Mapping]]] = ..., workers: _Optional[_Iterable[str]] = ...) -> None: ...

class InstanceAnnouncement(_message.Message):
    __slots__ = ("executor", "sequence", "incarnation", "groups", "leaving", "policies")
    EXECUTOR_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    LEAVING_FIELD_NUMBER: _ClassVar[int]
    POLICIES_FIELD_NUMBER: _ClassVar[int]
    executor: str
    sequence: int
    incarnation: int
    groups: _containers.RepeatedCompositeFieldContainer[GroupAnnouncement]
    leaving: bool
    policies: Policies
    def __init__(self, executor: _Optional[str] = ..., sequence: _Optional[int] = ..., incarnation: _Optional[int] = ..., groups: _Optional[_Iterable[_Union[GroupAnnouncement, _Mapping]]] = ..., leaving: _Optional[bool] = ..., policies: _Optional[_Union[Policies, _Mapping]] = ...) -> None: ...

class Policies(_message.Message):
    __slots__ = ("components", "whole")
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    WHOLE_FIELD_NUMBER: _ClassVar[int]
    components: _containers.RepeatedCompositeFieldContainer[ComponentPolicy]
    whole: bool
    def __init__(self, components: _Optional[_Iterable[_Union[ComponentPolicy, _Mapping]]] = ..., whole: _Optional[bool] = ...) -> None: ...

class ComponentPolicy(_message.Message):
    __slots__ = ("namespace", "component", "weights", "deprecated")
    class WeightsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    DEPRECATED_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    component: str
    weights: _containers.ScalarMap[str, int]
    deprecated: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, namespace: _Optional[str] = ..., component: _Optional[str] = ..., weights: _Optional[_Mapping[str, int]] = ..., deprecated: _Optional[_Iterable[str]] = ...) -> None: ...

class DrainNotice(_message.Message):
    __slots__ = ("namespace", "instance_id", "drain")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    DRAIN_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    instance_id: str
    drain: bool
    def __init__(self, namespace: _Optional[str] = ..., instance_id: _Optional[str] = ..., drain: _Optional[bool] = ...) -> None: ...

class GroupAnnouncement(_message.Message):
    __slots__ = ("group", "namespace", "component", "version", "labels", "credit", "long_running", "instances")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    GROUP_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    LONG_RUNNING_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    group: str
    namespace: str
    component: str
    version: str
    labels: _containers.ScalarMap[str, str]
    credit: int
    long_running: bool
    instances: _containers.RepeatedCompositeFieldContainer[InstanceInfo]
    def __init__(self, group: _Optional[str] = ..., namespace: _Optional[str] = ..., component: _Optional[str] = ..., version: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., credit: _Optional[int] = ..., long_running: _Optional[bool] = ..., instances: _Optional[_Iterable[_Union[InstanceInfo, _Mapping]]] = ...) -> None: ...

class InstanceInfo(_message.Message):
    __slots__ = ("instance_id", "credit", "in_flight", "draining", "connected_us", "pool_instance")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    CONNECTED_US_FIELD_NUMBER: _ClassVar[int]
    POOL_INSTANCE_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    credit: int
    in_flight: int
    draining: bool
    connected_us: int
    pool_instance: str
    def __init__(self, instance_id: _Optional[str] = ..., credit: _Optional[int] = ..., in_flight: _Optional[int] = ..., draining: _Optional[bool] = ..., connected_us: _Optional[int] = ..., pool_instance: _Optional[str] = ...) -> None: ...

class DemandNotice(_message.Message):
    __slots__ = ("engine", "lanes", "groups")
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    LANES_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    engine: str
    lanes: _containers.RepeatedCompositeFieldContainer[LaneDemand]
    groups: _containers.RepeatedCompositeFieldContainer[GroupDemand]
    def __init__(self, engine: _Optional[str] = ..., lanes: _Optional[_Iterable[_Union[LaneDemand, _Mapping]]] = ..., groups: _Optional[_Iterable[_Union[GroupDemand, _Mapping]]] = ...) -> None: ...

class LaneDemand(_message.Message):
    __slots__ = ("namespace", "component", "exact_version", "major", "requires", "waiting", "oldest_us")
    class RequiresEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    EXACT_VERSION_FIELD_NUMBER: _ClassVar[int]
    MAJOR_FIELD_NUMBER: _ClassVar[int]
    REQUIRES_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    OLDEST_US_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    component: str
    exact_version: str
    major: int
    requires: _containers.ScalarMap[str, str]
    waiting: int
    oldest_us: int
    def __init__(self, namespace: _Optional[str] = ..., component: _Optional[str] = ..., exact_version: _Optional[str] = ..., major: _Optional[int] = ..., requires: _Optional[_Mapping[str, str]] = ..., waiting: _Optional[int] = ..., oldest_us: _Optional[int] = ...) -> None: ...

class GroupDemand(_message.Message):
    __slots__ = ("namespace", "component", "version", "labels", "open", "oldest_us")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    OLDEST_US_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    component: str
    version: str
    labels: _containers.ScalarMap[str, str]
    open: int
    oldest_us: int
    def __init__(self, namespace: _Optional[str] = ..., component: _Optional[str] = ..., version: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., open: _Optional[int] = ..., oldest_us: _Optional[int] = ...) -> None: ...

class EngineCommand(_message.Message):
    __slots__ = ("request_id", "execution", "actor", "cancel", "notify_slot", "pause", "resume", "retry", "reset", "signal", "decision", "start")
    class Resume(_message.Message):
        __slots__ = ()
        def __init__(self) -> None: ...
    class Reset(_message.Message):
        __slots__ = ("task", "reason")
        TASK_FIELD_NUMBER: _ClassVar[int]
        REASON_FIELD_NUMBER: _ClassVar[int]
        task: str
        reason: str
        def __init__(self, task: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...
    class Signal(_message.Message):
        __slots__ = ("name", "payload")
        NAME_FIELD_NUMBER: _ClassVar[int]
        PAYLOAD_FIELD_NUMBER: _ClassVar[int]
        name: str
        payload: bytes
        def __init__(self, name: _Optional[str] = ..., payload: _Optional[bytes] = ...) -> None: ...
    class Decision(_message.Message):
        __slots__ = ("key", "approved", "comment", "data")
        KEY_FIELD_NUMBER: _ClassVar[int]
        APPROVED_FIELD_NUMBER: _ClassVar[int]
        COMMENT_FIELD_NUMBER: _ClassVar[int]
        DATA_FIELD_NUMBER: _ClassVar[int]
        key: TaskKey
        approved: bool
        comment: str
        data: bytes
        def __init__(self, key: _Optional[_Union[TaskKey, _Mapping]] = ..., approved: _Optional[bool] = ..., comment: _Optional[str] = ..., data: _Optional[bytes] = ...) -> None: ...
    class Start(_message.Message):
        __slots__ = ("namespace", "workflow", "revision", "current", "input", "labels", "request_id", "request_hash", "execution_id", "trace", "rerun_of")
        NAMESPACE_FIELD_NUMBER: _ClassVar[int]
        WORKFLOW_FIELD_NUMBER: _ClassVar[int]
        REVISION_FIELD_NUMBER: _ClassVar[int]
        CURRENT_FIELD_NUMBER: _ClassVar[int]
        INPUT_FIELD_NUMBER: _ClassVar[int]
        LABELS_FIELD_NUMBER: _ClassVar[int]
        REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
        REQUEST_HASH_FIELD_NUMBER: _ClassVar[int]
        EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
        TRACE_FIELD_NUMBER: _ClassVar[int]
        RERUN_OF_FIELD_NUMBER: _ClassVar[int]
        namespace: str
        workflow: str
        revision: int
        current: bool
        input: bytes
        labels: bytes
        request_id: str
        request_hash: bytes
        execution_id: str
        trace: str
        rerun_of: int
        def __init__(self, namespace: _Optional[str] = ..., workflow: _Optional[str] = ..., revision: _Optional[int] = ..., current: _Optional[bool] = ..., input: _Optional[bytes] = ..., labels: _Optional[bytes] = ..., request_id: _Optional[str] = ..., request_hash: _Optional[bytes] = ..., execution_id: _Optional[str] = ..., trace: _Optional[str] = ..., rerun_of: _Optional[int] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    NOTIFY_SLOT_FIELD_NUMBER: _ClassVar[int]
    PAUSE_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    RETRY_FIELD_NUMBER: _ClassVar[int]
    RESET_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    execution: int
    actor: str
    cancel: str
    notify_slot: int
    pause: str
    resume: EngineCommand.Resume
    retry: str
    reset: EngineCommand.Reset
    signal: EngineCommand.Signal
    decision: EngineCommand.Decision
    start: EngineCommand.Start
    def __init__(self, request_id: _Optional[str] = ..., execution: _Optional[int] = ..., actor: _Optional[str] = ..., cancel: _Optional[str] = ..., notify_slot: _Optional[int] = ..., pause: _Optional[str] = ..., resume: _Optional[_Union[EngineCommand.Resume, _Mapping]] = ..., retry: _Optional[str] = ..., reset: _Optional[_Union[EngineCommand.Reset, _Mapping]] = ..., signal: _Optional[_Union[EngineCommand.Signal, _Mapping]] = ..., decision: _Optional[_Union[EngineCommand.Decision, _Mapping]] = ..., start: _Optional[_Union[EngineCommand.Start, _Mapping]] = ...) -> None: ...

class EngineCommandResult(_message.Message):
    __slots__ = ("code", "reason", "message", "status", "run", "delivered", "execution", "public_id", "created")
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    DELIVERED_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_ID_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    code: int
    reason: str
    message: str
    status: int
    run: int
    delivered: bool
    execution: int
    public_id: str
    created: bool
    def __init__(self, code: _Optional[int] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., status: _Optional[int] = ..., run: _Optional[int] = ..., delivered: _Optional[bool] = ..., execution: _Optional[int] = ..., public_id: _Optional[str] = ..., created: _Optional[bool] = ...) -> None: ...

class FinishedNotice(_message.Message):
    __slots__ = ("executions",)
    EXECUTIONS_FIELD_NUMBER: _ClassVar[int]
    executions: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, executions: _Optional[_Iterable[int]] = ...) -> None: ...

class PoolReport(_message.Message):
    __slots__ = ("namespace", "executor", "status", "stats")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    EXECUTOR_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    STATS_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    executor: str
    status: _pool_pb2.PoolStatus
    stats: _pool_pb2.PoolStats
    def __init__(self, namespace: _Optional[str] = ..., executor: _Optional[str] = ..., status: _Optional[_Union[_pool_pb2.PoolStatus, _Mapping]] = ..., stats: _Optional[_Union[_pool_pb2.PoolStats, _Mapping]] = ...) -> None: ...
