from bend.v1 import component_pb2 as _component_pb2
from bend.v1 import executor_service_pb2 as _executor_service_pb2
from buf.validate import validate_pb2 as _validate_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DescribeRequest(_message.Message):
    __slots__ = ("protocol_version", "executor")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    EXECUTOR_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    executor: str
    def __init__(self, protocol_version: _Optional[int] = ..., executor: _Optional[str] = ...) -> None: ...

class DescribeResponse(_message.Message):
    __slots__ = ("protocol_version", "instance_id", "sdk", "components", "credit")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    SDK_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    instance_id: str
    sdk: str
    components: _containers.RepeatedCompositeFieldContainer[_component_pb2.ComponentContract]
    credit: int
    def __init__(self, protocol_version: _Optional[int] = ..., instance_id: _Optional[str] = ..., sdk: _Optional[str] = ..., components: _Optional[_Iterable[_Union[_component_pb2.ComponentContract, _Mapping]]] = ..., credit: _Optional[int] = ...) -> None: ...

class ExecuteRequest(_message.Message):
    __slots__ = ("instance_id", "task")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    task: _executor_service_pb2.Task
    def __init__(self, instance_id: _Optional[str] = ..., task: _Optional[_Union[_executor_service_pb2.Task, _Mapping]] = ...) -> None: ...

class ExecuteResponse(_message.Message):
    __slots__ = ("chunks", "heartbeat", "result")
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    chunks: _executor_service_pb2.ChunkBatch
    heartbeat: _executor_service_pb2.Heartbeat
    result: _executor_service_pb2.TaskResult
    def __init__(self, chunks: _Optional[_Union[_executor_service_pb2.ChunkBatch, _Mapping]] = ..., heartbeat: _Optional[_Union[_executor_service_pb2.Heartbeat, _Mapping]] = ..., result: _Optional[_Union[_executor_service_pb2.TaskResult, _Mapping]] = ...) -> None: ...
