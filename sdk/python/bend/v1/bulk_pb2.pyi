import datetime

from bend.v1 import execution_pb2 as _execution_pb2
from buf.validate import validate_pb2 as _validate_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Bulk(_message.Message):
    __slots__ = ("bulk_id", "action", "dry_run", "state", "matched_count", "done_count", "refused_count", "sample", "actor", "create_time", "update_time")
    class Action(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        ACTION_UNSPECIFIED: _ClassVar[Bulk.Action]
        CANCEL: _ClassVar[Bulk.Action]
        RETRY: _ClassVar[Bulk.Action]
    ACTION_UNSPECIFIED: Bulk.Action
    CANCEL: Bulk.Action
    RETRY: Bulk.Action
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Bulk.State]
        RUNNING: _ClassVar[Bulk.State]
        DONE: _ClassVar[Bulk.State]
    STATE_UNSPECIFIED: Bulk.State
    RUNNING: Bulk.State
    DONE: Bulk.State
    BULK_ID_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    MATCHED_COUNT_FIELD_NUMBER: _ClassVar[int]
    DONE_COUNT_FIELD_NUMBER: _ClassVar[int]
    REFUSED_COUNT_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    bulk_id: str
    action: Bulk.Action
    dry_run: bool
    state: Bulk.State
    matched_count: int
    done_count: int
    refused_count: int
    sample: _containers.RepeatedScalarFieldContainer[str]
    actor: str
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    def __init__(self, bulk_id: _Optional[str] = ..., action: _Optional[_Union[Bulk.Action, str]] = ..., dry_run: _Optional[bool] = ..., state: _Optional[_Union[Bulk.State, str]] = ..., matched_count: _Optional[int] = ..., done_count: _Optional[int] = ..., refused_count: _Optional[int] = ..., sample: _Optional[_Iterable[str]] = ..., actor: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class BulkExecutionsRequest(_message.Message):
    __slots__ = ("action", "workflow", "statuses", "label", "started_after", "started_before", "reason", "dry_run", "request_id")
    ACTION_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    STARTED_AFTER_FIELD_NUMBER: _ClassVar[int]
    STARTED_BEFORE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    action: Bulk.Action
    workflow: str
    statuses: _containers.RepeatedScalarFieldContainer[_execution_pb2.Execution.Status]
    label: str
    started_after: _timestamp_pb2.Timestamp
    started_before: _timestamp_pb2.Timestamp
    reason: str
    dry_run: bool
    request_id: str
    def __init__(self, action: _Optional[_Union[Bulk.Action, str]] = ..., workflow: _Optional[str] = ..., statuses: _Optional[_Iterable[_Union[_execution_pb2.Execution.Status, str]]] = ..., label: _Optional[str] = ..., started_after: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., started_before: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., reason: _Optional[str] = ..., dry_run: _Optional[bool] = ..., request_id: _Optional[str] = ...) -> None: ...

class BulkExecutionsResponse(_message.Message):
    __slots__ = ("bulk",)
    BULK_FIELD_NUMBER: _ClassVar[int]
    bulk: Bulk
    def __init__(self, bulk: _Optional[_Union[Bulk, _Mapping]] = ...) -> None: ...

class GetBulkRequest(_message.Message):
    __slots__ = ("bulk_id",)
    BULK_ID_FIELD_NUMBER: _ClassVar[int]
    bulk_id: str
    def __init__(self, bulk_id: _Optional[str] = ...) -> None: ...

class GetBulkResponse(_message.Message):
    __slots__ = ("bulk",)
    BULK_FIELD_NUMBER: _ClassVar[int]
    bulk: Bulk
    def __init__(self, bulk: _Optional[_Union[Bulk, _Mapping]] = ...) -> None: ...
