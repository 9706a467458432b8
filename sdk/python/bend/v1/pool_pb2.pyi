import datetime

from buf.validate import validate_pb2 as _validate_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Pool(_message.Message):
    __slots__ = ("name", "component", "version", "labels", "process", "docker", "kubernetes", "min_instances", "max_instances", "scaling", "resources", "restarts", "drain", "start")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    DOCKER_FIELD_NUMBER: _ClassVar[int]
    KUBERNETES_FIELD_NUMBER: _ClassVar[int]
    MIN_INSTANCES_FIELD_NUMBER: _ClassVar[int]
    MAX_INSTANCES_FIELD_NUMBER: _ClassVar[int]
    SCALING_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    DRAIN_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    name: str
    component: str
    version: str
    labels: _containers.ScalarMap[str, str]
    process: ProcessDriver
    docker: DockerDriver
    kubernetes: KubernetesDriver
    min_instances: int
    max_instances: int
    scaling: PoolScaling
    resources: PoolResources
    restarts: PoolRestarts
    drain: _duration_pb2.Duration
    start: _duration_pb2.Duration
    def __init__(self, name: _Optional[str] = ..., component: _Optional[str] = ..., version: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., process: _Optional[_Union[ProcessDriver, _Mapping]] = ..., docker: _Optional[_Union[DockerDriver, _Mapping]] = ..., kubernetes: _Optional[_Union[KubernetesDriver, _Mapping]] = ..., min_instances: _Optional[int] = ..., max_instances: _Optional[int] = ..., scaling: _Optional[_Union[PoolScaling, _Mapping]] = ..., resources: _Optional[_Union[PoolResources, _Mapping]] = ..., restarts: _Optional[_Union[PoolRestarts, _Mapping]] = ..., drain: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., start: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ProcessDriver(_message.Message):
    __slots__ = ("command", "environment", "folder", "nice")
    class EnvironmentEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    FOLDER_FIELD_NUMBER: _ClassVar[int]
    NICE_FIELD_NUMBER: _ClassVar[int]
    command: _containers.RepeatedScalarFieldContainer[str]
    environment: _containers.ScalarMap[str, str]
    folder: str
    nice: int
    def __init__(self, command: _Optional[_Iterable[str]] = ..., environment: _Optional[_Mapping[str, str]] = ..., folder: _Optional[str] = ..., nice: _Optional[int] = ...) -> None: ...

class DockerDriver(_message.Message):
    __slots__ = ("image", "command", "environment", "network")
    class EnvironmentEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    image: str
    command: _containers.RepeatedScalarFieldContainer[str]
    environment: _containers.ScalarMap[str, str]
    network: str
    def __init__(self, image: _Optional[str] = ..., command: _Optional[_Iterable[str]] = ..., environment: _Optional[_Mapping[str, str]] = ..., network: _Optional[str] = ...) -> None: ...

class KubernetesDriver(_message.Message):
    __slots__ = ("image", "command", "environment", "cluster_namespace", "certificate_secret", "service_account")
    class EnvironmentEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_SECRET_FIELD_NUMBER: _ClassVar[int]
    SERVICE_ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    image: str
    command: _containers.RepeatedScalarFieldContainer[str]
    environment: _containers.ScalarMap[str, str]
    cluster_namespace: str
    certificate_secret: str
    service_account: str
    def __init__(self, image: _Optional[str] = ..., command: _Optional[_Iterable[str]] = ..., environment: _Optional[_Mapping[str, str]] = ..., cluster_namespace: _Optional[str] = ..., certificate_secret: _Optional[str] = ..., service_account: _Optional[str] = ...) -> None: ...

class PoolScaling(_message.Message):
    __slots__ = ("tasks_per_instance", "age", "up_after", "down_after", "idle", "step_up", "step_down", "tolerance_percent")
    TASKS_PER_INSTANCE_FIELD_NUMBER: _ClassVar[int]
    AGE_FIELD_NUMBER: _ClassVar[int]
    UP_AFTER_FIELD_NUMBER: _ClassVar[int]
    DOWN_AFTER_FIELD_NUMBER: _ClassVar[int]
    IDLE_FIELD_NUMBER: _ClassVar[int]
    STEP_UP_FIELD_NUMBER: _ClassVar[int]
    STEP_DOWN_FIELD_NUMBER: _ClassVar[int]
    TOLERANCE_PERCENT_FIELD_NUMBER: _ClassVar[int]
    tasks_per_instance: int
    age: _duration_pb2.Duration
    up_after: _duration_pb2.Duration
    down_after: _duration_pb2.Duration
    idle: _duration_pb2.Duration
    step_up: int
    step_down: int
    tolerance_percent: int
    def __init__(self, tasks_per_instance: _Optional[int] = ..., age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., up_after: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., down_after: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., idle: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., step_up: _Optional[int] = ..., step_down: _Optional[int] = ..., tolerance_percent: _Optional[int] = ...) -> None: ...

class PoolResources(_message.Message):
    __slots__ = ("cpu", "memory_mib", "open_files")
    CPU_FIELD_NUMBER: _ClassVar[int]
    MEMORY_MIB_FIELD_NUMBER: _ClassVar[int]
    OPEN_FILES_FIELD_NUMBER: _ClassVar[int]
    cpu: float
    memory_mib: int
    open_files: int
    def __init__(self, cpu: _Optional[float] = ..., memory_mib: _Optional[int] = ..., open_files: _Optional[int] = ...) -> None: ...

class PoolRestarts(_message.Message):
    __slots__ = ("backoff", "backoff_max", "crashes", "window", "pause")
    BACKOFF_FIELD_NUMBER: _ClassVar[int]
    BACKOFF_MAX_FIELD_NUMBER: _ClassVar[int]
    CRASHES_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    PAUSE_FIELD_NUMBER: _ClassVar[int]
    backoff: _duration_pb2.Duration
    backoff_max: _duration_pb2.Duration
    crashes: int
    window: _duration_pb2.Duration
    pause: _duration_pb2.Duration
    def __init__(self, backoff: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., backoff_max: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., crashes: _Optional[int] = ..., window: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., pause: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class PoolStatus(_message.Message):
    __slots__ = ("pool", "source", "state", "reason", "executor", "wanted", "held_instances", "waiting_tasks", "open_tasks", "oldest", "instances", "update_time")
    class Source(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SOURCE_UNSPECIFIED: _ClassVar[PoolStatus.Source]
        CONFIGURATION: _ClassVar[PoolStatus.Source]
        API: _ClassVar[PoolStatus.Source]
    SOURCE_UNSPECIFIED: PoolStatus.Source
    CONFIGURATION: PoolStatus.Source
    API: PoolStatus.Source
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[PoolStatus.State]
        UNMANAGED: _ClassVar[PoolStatus.State]
        ACTIVE: _ClassVar[PoolStatus.State]
        CRASH_LOOP: _ClassVar[PoolStatus.State]
        BROKEN: _ClassVar[PoolStatus.State]
        STOPPING: _ClassVar[PoolStatus.State]
    STATE_UNSPECIFIED: PoolStatus.State
    UNMANAGED: PoolStatus.State
    ACTIVE: PoolStatus.State
    CRASH_LOOP: PoolStatus.State
    BROKEN: PoolStatus.State
    STOPPING: PoolStatus.State
    POOL_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    EXECUTOR_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    HELD_INSTANCES_FIELD_NUMBER: _ClassVar[int]
    WAITING_TASKS_FIELD_NUMBER: _ClassVar[int]
    OPEN_TASKS_FIELD_NUMBER: _ClassVar[int]
    OLDEST_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    pool: Pool
    source: PoolStatus.Source
    state: PoolStatus.State
    reason: str
    executor: str
    wanted: int
    held_instances: int
    waiting_tasks: int
    open_tasks: int
    oldest: _duration_pb2.Duration
    instances: _containers.RepeatedCompositeFieldContainer[PoolInstance]
    update_time: _timestamp_pb2.Timestamp
    def __init__(self, pool: _Optional[_Union[Pool, _Mapping]] = ..., source: _Optional[_Union[PoolStatus.Source, str]] = ..., state: _Optional[_Union[PoolStatus.State, str]] = ..., reason: _Optional[str] = ..., executor: _Optional[str] = ..., wanted: _Optional[int] = ..., held_instances: _Optional[int] = ..., waiting_tasks: _Optional[int] = ..., open_tasks: _Optional[int] = ..., oldest: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., instances: _Optional[_Iterable[_Union[PoolInstance, _Mapping]]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class PoolInstance(_message.Message):
    __slots__ = ("name", "state", "place", "start_time", "cpu", "memory_bytes", "credit", "in_flight")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[PoolInstance.State]
        STARTING: _ClassVar[PoolInstance.State]
        READY: _ClassVar[PoolInstance.State]
        DRAINING: _ClassVar[PoolInstance.State]
    STATE_UNSPECIFIED: PoolInstance.State
    STARTING: PoolInstance.State
    READY: PoolInstance.State
    DRAINING: PoolInstance.State
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    CPU_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    name: str
    state: PoolInstance.State
    place: str
    start_time: _timestamp_pb2.Timestamp
    cpu: float
    memory_bytes: int
    credit: int
    in_flight: int
    def __init__(self, name: _Optional[str] = ..., state: _Optional[_Union[PoolInstance.State, str]] = ..., place: _Optional[str] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., cpu: _Optional[float] = ..., memory_bytes: _Optional[int] = ..., credit: _Optional[int] = ..., in_flight: _Optional[int] = ...) -> None: ...

class PoolSample(_message.Message):
    __slots__ = ("time", "waiting_tasks", "open_tasks", "wanted", "ready", "cpu", "memory_bytes")
    TIME_FIELD_NUMBER: _ClassVar[int]
    WAITING_TASKS_FIELD_NUMBER: _ClassVar[int]
    OPEN_TASKS_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    CPU_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    time: _timestamp_pb2.Timestamp
    waiting_tasks: int
    open_tasks: int
    wanted: int
    ready: int
    cpu: float
    memory_bytes: int
    def __init__(self, time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., waiting_tasks: _Optional[int] = ..., open_tasks: _Optional[int] = ..., wanted: _Optional[int] = ..., ready: _Optional[int] = ..., cpu: _Optional[float] = ..., memory_bytes: _Optional[int] = ...) -> None: ...

class PoolStats(_message.Message):
    __slots__ = ("starts", "failures", "stops", "kills", "ends", "samples")
    STARTS_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    STOPS_FIELD_NUMBER: _ClassVar[int]
    KILLS_FIELD_NUMBER: _ClassVar[int]
    ENDS_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    starts: int
    failures: int
    stops: int
    kills: int
    ends: _containers.RepeatedScalarFieldContainer[str]
    samples: _containers.RepeatedCompositeFieldContainer[PoolSample]
    def __init__(self, starts: _Optional[int] = ..., failures: _Optional[int] = ..., stops: _Optional[int] = ..., kills: _Optional[int] = ..., ends: _Optional[_Iterable[str]] = ..., samples: _Optional[_Iterable[_Union[PoolSample, _Mapping]]] = ...) -> None: ...
