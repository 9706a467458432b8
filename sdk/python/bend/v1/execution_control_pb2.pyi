from bend.v1 import execution_pb2 as _execution_pb2
from buf.validate import validate_pb2 as _validate_pb2
from google.api import httpbody_pb2 as _httpbody_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RerunExecutionRequest(_message.Message):
    __slots__ = ("execution_id", "parameters", "merge", "revision", "request_id", "body")
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    MERGE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    execution_id: str
    parameters: bytes
    merge: bool
    revision: int
    request_id: str
    body: _httpbody_pb2.HttpBody
    def __init__(self, execution_id: _Optional[str] = ..., parameters: _Optional[bytes] = ..., merge: _Optional[bool] = ..., revision: _Optional[int] = ..., request_id: _Optional[str] = ..., body: _Optional[_Union[_httpbody_pb2.HttpBody, _Mapping]] = ...) -> None: ...

class RerunExecutionResponse(_message.Message):
    __slots__ = ("execution_id", "created", "body")
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    execution_id: str
    created: bool
    body: _httpbody_pb2.HttpBody
    def __init__(self, execution_id: _Optional[str] = ..., created: _Optional[bool] = ..., body: _Optional[_Union[_httpbody_pb2.HttpBody, _Mapping]] = ...) -> None: ...

class PauseExecutionRequest(_message.Message):
    __slots__ = ("execution_id", "reason")
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    execution_id: str
    reason: str
    def __init__(self, execution_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class PauseExecutionResponse(_message.Message):
    __slots__ = ("execution_id", "status")
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    execution_id: str
    status: _execution_pb2.Execution.Status
    def __init__(self, execution_id: _Optional[str] = ..., status: _Optional[_Union[_execution_pb2.Execution.Status, str]] = ...) -> None: ...

class ResumeExecutionRequest(_message.Message):
    __slots__ = ("execution_id",)
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    execution_id: str
    def __init__(self, execution_id: _Optional[str] = ...) -> None: ...

class ResumeExecutionResponse(_message.Message):
    __slots__ = ("execution_id", "status")
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    execution_id: str
    status: _execution_pb2.Execution.Status
    def __init__(self, execution_id: _Optional[str] = ..., status: _Optional[_Union[_execution_pb2.Execution.Status, str]] = ...) -> None: ...

class RetryExecutionRequest(_message.Message):
    __slots__ = ("execution_id", "reason", "request_id")
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    execution_id: str
    reason: str
    request_id: str
    def __init__(self, execution_id: _Optional[str] = ..., reason: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class RetryExecutionResponse(_message.Message):
    __slots__ = ("execution_id", "status", "run")
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    execution_id: str
    status: _execution_pb2.Execution.Status
    run: int
    def __init__(self, execution_id: _Optional[str] = ..., status: _Optional[_Union[_execution_pb2.Execution.Status, str]] = ..., run: _Optional[int] = ...) -> None: ...

class ResetExecutionRequest(_message.Message):
    __slots__ = ("execution_id", "task", "reason", "request_id")
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    execution_id: str
    task: str
    reason: str
    request_id: str
    def __init__(self, execution_id: _Optional[str] = ..., task: _Optional[str] = ..., reason: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class ResetExecutionResponse(_message.Message):
    __slots__ = ("execution_id", "status", "run")
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    execution_id: str
    status: _execution_pb2.Execution.Status
    run: int
    def __init__(self, execution_id: _Optional[str] = ..., status: _Optional[_Union[_execution_pb2.Execution.Status, str]] = ..., run: _Optional[int] = ...) -> None: ...

class SignalExecutionRequest(_message.Message):
    __slots__ = ("execution_id", "name", "payload", "request_id", "body")
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    execution_id: str
    name: str
    payload: bytes
    request_id: str
    body: _httpbody_pb2.HttpBody
    def __init__(self, execution_id: _Optional[str] = ..., name: _Optional[str] = ..., payload: _Optional[bytes] = ..., request_id: _Optional[str] = ..., body: _Optional[_Union[_httpbody_pb2.HttpBody, _Mapping]] = ...) -> None: ...

class SignalExecutionResponse(_message.Message):
    __slots__ = ("execution_id", "delivered")
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    DELIVERED_FIELD_NUMBER: _ClassVar[int]
    execution_id: str
    delivered: bool
    def __init__(self, execution_id: _Optional[str] = ..., delivered: _Optional[bool] = ...) -> None: ...
