import datetime

from buf.validate import validate_pb2 as _validate_pb2
from google.api import httpbody_pb2 as _httpbody_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Approval(_message.Message):
    __slots__ = ("approval_id", "execution_id", "workflow", "task", "item", "title", "assignees", "form", "status", "create_time", "expire_time", "decided_by", "decide_time", "comment")
    class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATUS_UNSPECIFIED: _ClassVar[Approval.Status]
        PENDING: _ClassVar[Approval.Status]
        APPROVED: _ClassVar[Approval.Status]
        REJECTED: _ClassVar[Approval.Status]
        CLOSED: _ClassVar[Approval.Status]
    STATUS_UNSPECIFIED: Approval.Status
    PENDING: Approval.Status
    APPROVED: Approval.Status
    REJECTED: Approval.Status
    CLOSED: Approval.Status
    APPROVAL_ID_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    ASSIGNEES_FIELD_NUMBER: _ClassVar[int]
    FORM_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    DECIDED_BY_FIELD_NUMBER: _ClassVar[int]
    DECIDE_TIME_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    approval_id: str
    execution_id: str
    workflow: str
    task: str
    item: int
    title: str
    assignees: _containers.RepeatedScalarFieldContainer[str]
    form: bytes
    status: Approval.Status
    create_time: _timestamp_pb2.Timestamp
    expire_time: _timestamp_pb2.Timestamp
    decided_by: str
    decide_time: _timestamp_pb2.Timestamp
    comment: str
    def __init__(self, approval_id: _Optional[str] = ..., execution_id: _Optional[str] = ..., workflow: _Optional[str] = ..., task: _Optional[str] = ..., item: _Optional[int] = ..., title: _Optional[str] = ..., assignees: _Optional[_Iterable[str]] = ..., form: _Optional[bytes] = ..., status: _Optional[_Union[Approval.Status, str]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., decided_by: _Optional[str] = ..., decide_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., comment: _Optional[str] = ...) -> None: ...

class ListApprovalsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "execution_id", "status", "assignee")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ASSIGNEE_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    execution_id: str
    status: Approval.Status
    assignee: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., execution_id: _Optional[str] = ..., status: _Optional[_Union[Approval.Status, str]] = ..., assignee: _Optional[str] = ...) -> None: ...

class ListApprovalsResponse(_message.Message):
    __slots__ = ("approvals", "next_page_token", "body")
    APPROVALS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    approvals: _containers.RepeatedCompositeFieldContainer[Approval]
    next_page_token: str
    body: _httpbody_pb2.HttpBody
    def __init__(self, approvals: _Optional[_Iterable[_Union[Approval, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., body: _Optional[_Union[_httpbody_pb2.HttpBody, _Mapping]] = ...) -> None: ...

class DecideApprovalRequest(_message.Message):
    __slots__ = ("approval_id", "approved", "comment", "data", "body")
    APPROVAL_ID_FIELD_NUMBER: _ClassVar[int]
    APPROVED_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    approval_id: str
    approved: bool
    comment: str
    data: bytes
    body: _httpbody_pb2.HttpBody
    def __init__(self, approval_id: _Optional[str] = ..., approved: _Optional[bool] = ..., comment: _Optional[str] = ..., data: _Optional[bytes] = ..., body: _Optional[_Union[_httpbody_pb2.HttpBody, _Mapping]] = ...) -> None: ...

class DecideApprovalResponse(_message.Message):
    __slots__ = ("approval", "body")
    APPROVAL_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    approval: Approval
    body: _httpbody_pb2.HttpBody
    def __init__(self, approval: _Optional[_Union[Approval, _Mapping]] = ..., body: _Optional[_Union[_httpbody_pb2.HttpBody, _Mapping]] = ...) -> None: ...
