from bend.v1 import pool_pb2 as _pool_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PoolRecord(_message.Message):
    __slots__ = ("namespace", "name", "pool", "held_instances")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    HELD_INSTANCES_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    pool: _pool_pb2.Pool
    held_instances: int
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ..., pool: _Optional[_Union[_pool_pb2.Pool, _Mapping]] = ..., held_instances: _Optional[int] = ...) -> None: ...

class PoolLease(_message.Message):
    __slots__ = ("seat", "executor", "expires_us")
    SEAT_FIELD_NUMBER: _ClassVar[int]
    EXECUTOR_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_US_FIELD_NUMBER: _ClassVar[int]
    seat: str
    executor: str
    expires_us: int
    def __init__(self, seat: _Optional[str] = ..., executor: _Optional[str] = ..., expires_us: _Optional[int] = ...) -> None: ...

class SyncPoolsRequest(_message.Message):
    __slots__ = ("seat", "executor", "configured", "release")
    SEAT_FIELD_NUMBER: _ClassVar[int]
    EXECUTOR_FIELD_NUMBER: _ClassVar[int]
    CONFIGURED_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    seat: str
    executor: str
    configured: bool
    release: bool
    def __init__(self, seat: _Optional[str] = ..., executor: _Optional[str] = ..., configured: _Optional[bool] = ..., release: _Optional[bool] = ...) -> None: ...

class SyncPoolsResponse(_message.Message):
    __slots__ = ("records", "lease_ms", "holder")
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    LEASE_MS_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    records: _containers.RepeatedCompositeFieldContainer[PoolRecord]
    lease_ms: int
    holder: str
    def __init__(self, records: _Optional[_Iterable[_Union[PoolRecord, _Mapping]]] = ..., lease_ms: _Optional[int] = ..., holder: _Optional[str] = ...) -> None: ...

class ChangePoolRequest(_message.Message):
    __slots__ = ("namespace", "name", "put", "hold", "follow", "remove", "configured")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PUT_FIELD_NUMBER: _ClassVar[int]
    HOLD_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    REMOVE_FIELD_NUMBER: _ClassVar[int]
    CONFIGURED_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    put: _pool_pb2.Pool
    hold: int
    follow: bool
    remove: bool
    configured: bool
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ..., put: _Optional[_Union[_pool_pb2.Pool, _Mapping]] = ..., hold: _Optional[int] = ..., follow: _Optional[bool] = ..., remove: _Optional[bool] = ..., configured: _Optional[bool] = ...) -> None: ...

class ChangePoolResponse(_message.Message):
    __slots__ = ("record", "changed")
    RECORD_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    record: PoolRecord
    changed: bool
    def __init__(self, record: _Optional[_Union[PoolRecord, _Mapping]] = ..., changed: _Optional[bool] = ...) -> None: ...
