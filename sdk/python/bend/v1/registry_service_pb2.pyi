from bend.v1 import component_pb2 as _component_pb2
from buf.validate import validate_pb2 as _validate_pb2
from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RegisterComponentRequest(_message.Message):
    __slots__ = ("contract", "namespace")
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    contract: _component_pb2.ComponentContract
    namespace: str
    def __init__(self, contract: _Optional[_Union[_component_pb2.ComponentContract, _Mapping]] = ..., namespace: _Optional[str] = ...) -> None: ...

class RegisterComponentResponse(_message.Message):
    __slots__ = ("version", "created")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    version: _component_pb2.ComponentVersion
    created: bool
    def __init__(self, version: _Optional[_Union[_component_pb2.ComponentVersion, _Mapping]] = ..., created: _Optional[bool] = ...) -> None: ...

class GetComponentRequest(_message.Message):
    __slots__ = ("name", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class GetComponentResponse(_message.Message):
    __slots__ = ("component", "version", "weights")
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    component: _component_pb2.Component
    version: _component_pb2.ComponentVersion
    weights: _containers.RepeatedCompositeFieldContainer[VersionWeight]
    def __init__(self, component: _Optional[_Union[_component_pb2.Component, _Mapping]] = ..., version: _Optional[_Union[_component_pb2.ComponentVersion, _Mapping]] = ..., weights: _Optional[_Iterable[_Union[VersionWeight, _Mapping]]] = ...) -> None: ...

class ListComponentsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "query")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    query: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., query: _Optional[str] = ...) -> None: ...

class ListComponentsResponse(_message.Message):
    __slots__ = ("components", "next_page_token")
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    components: _containers.RepeatedCompositeFieldContainer[_component_pb2.Component]
    next_page_token: str
    def __init__(self, components: _Optional[_Iterable[_Union[_component_pb2.Component, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListComponentVersionsRequest(_message.Message):
    __slots__ = ("name", "page_size", "page_token")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    name: str
    page_size: int
    page_token: str
    def __init__(self, name: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListComponentVersionsResponse(_message.Message):
    __slots__ = ("versions", "next_page_token")
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    versions: _containers.RepeatedCompositeFieldContainer[_component_pb2.ComponentVersion]
    next_page_token: str
    def __init__(self, versions: _Optional[_Iterable[_Union[_component_pb2.ComponentVersion, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListInstancesRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListInstancesResponse(_message.Message):
    __slots__ = ("instances",)
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    instances: _containers.RepeatedCompositeFieldContainer[_component_pb2.Instance]
    def __init__(self, instances: _Optional[_Iterable[_Union[_component_pb2.Instance, _Mapping]]] = ...) -> None: ...

class DeprecateComponentVersionRequest(_message.Message):
    __slots__ = ("name", "version", "restore")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    RESTORE_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    restore: bool
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., restore: _Optional[bool] = ...) -> None: ...

class DeprecateComponentVersionResponse(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: _component_pb2.ComponentVersion
    def __init__(self, version: _Optional[_Union[_component_pb2.ComponentVersion, _Mapping]] = ...) -> None: ...

class CheckCompatibilityRequest(_message.Message):
    __slots__ = ("name", "contract", "version", "base_version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BASE_VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    contract: _component_pb2.ComponentContract
    version: str
    base_version: str
    def __init__(self, name: _Optional[str] = ..., contract: _Optional[_Union[_component_pb2.ComponentContract, _Mapping]] = ..., version: _Optional[str] = ..., base_version: _Optional[str] = ...) -> None: ...

class CheckCompatibilityResponse(_message.Message):
    __slots__ = ("compatible", "base_version", "version", "changes")
    COMPATIBLE_FIELD_NUMBER: _ClassVar[int]
    BASE_VERSION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    compatible: bool
    base_version: str
    version: str
    changes: _containers.RepeatedCompositeFieldContainer[ContractChange]
    def __init__(self, compatible: _Optional[bool] = ..., base_version: _Optional[str] = ..., version: _Optional[str] = ..., changes: _Optional[_Iterable[_Union[ContractChange, _Mapping]]] = ...) -> None: ...

class ContractChange(_message.Message):
    __slots__ = ("kind", "path", "message", "breaking")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[ContractChange.Kind]
        INPUT_REMOVED: _ClassVar[ContractChange.Kind]
        INPUT_RENAMED: _ClassVar[ContractChange.Kind]
        INPUT_REQUIRED: _ClassVar[ContractChange.Kind]
        INPUT_TYPE_NARROWED: _ClassVar[ContractChange.Kind]
        INPUT_VALUES_NARROWED: _ClassVar[ContractChange.Kind]
        INPUT_BOUNDS_NARROWED: _ClassVar[ContractChange.Kind]
        INPUT_CLOSED: _ClassVar[ContractChange.Kind]
        OUTPUT_REMOVED: _ClassVar[ContractChange.Kind]
        OUTPUT_RENAMED: _ClassVar[ContractChange.Kind]
        OUTPUT_OPTIONAL: _ClassVar[ContractChange.Kind]
        OUTPUT_TYPE_WIDENED: _ClassVar[ContractChange.Kind]
        OUTPUT_VALUES_WIDENED: _ClassVar[ContractChange.Kind]
        OUTPUT_BOUNDS_WIDENED: _ClassVar[ContractChange.Kind]
        ADDED: _ClassVar[ContractChange.Kind]
        EASED: _ClassVar[ContractChange.Kind]
        UNDECIDED: _ClassVar[ContractChange.Kind]
    KIND_UNSPECIFIED: ContractChange.Kind
    INPUT_REMOVED: ContractChange.Kind
    INPUT_RENAMED: ContractChange.Kind
    INPUT_REQUIRED: ContractChange.Kind
    INPUT_TYPE_NARROWED: ContractChange.Kind
    INPUT_VALUES_NARROWED: ContractChange.Kind
    INPUT_BOUNDS_NARROWED: ContractChange.Kind
    INPUT_CLOSED: ContractChange.Kind
    OUTPUT_REMOVED: ContractChange.Kind
    OUTPUT_RENAMED: ContractChange.Kind
    OUTPUT_OPTIONAL: ContractChange.Kind
    OUTPUT_TYPE_WIDENED: ContractChange.Kind
    OUTPUT_VALUES_WIDENED: ContractChange.Kind
    OUTPUT_BOUNDS_WIDENED: ContractChange.Kind
    ADDED: ContractChange.Kind
    EASED: ContractChange.Kind
    UNDECIDED: ContractChange.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    BREAKING_FIELD_NUMBER: _ClassVar[int]
    kind: ContractChange.Kind
    path: str
    message: str
    breaking: bool
    def __init__(self, kind: _Optional[_Union[ContractChange.Kind, str]] = ..., path: _Optional[str] = ..., message: _Optional[str] = ..., breaking: _Optional[bool] = ...) -> None: ...

class DrainInstanceRequest(_message.Message):
    __slots__ = ("instance_id", "restore")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    RESTORE_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    restore: bool
    def __init__(self, instance_id: _Optional[str] = ..., restore: _Optional[bool] = ...) -> None: ...

class DrainInstanceResponse(_message.Message):
    __slots__ = ("instances",)
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    instances: _containers.RepeatedCompositeFieldContainer[_component_pb2.Instance]
    def __init__(self, instances: _Optional[_Iterable[_Union[_component_pb2.Instance, _Mapping]]] = ...) -> None: ...

class VersionWeight(_message.Message):
    __slots__ = ("version", "weight")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    version: str
    weight: int
    def __init__(self, version: _Optional[str] = ..., weight: _Optional[int] = ...) -> None: ...

class SetComponentWeightsRequest(_message.Message):
    __slots__ = ("name", "weights")
    NAME_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    weights: _containers.RepeatedCompositeFieldContainer[VersionWeight]
    def __init__(self, name: _Optional[str] = ..., weights: _Optional[_Iterable[_Union[VersionWeight, _Mapping]]] = ...) -> None: ...

class SetComponentWeightsResponse(_message.Message):
    __slots__ = ("weights",)
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    weights: _containers.RepeatedCompositeFieldContainer[VersionWeight]
    def __init__(self, weights: _Optional[_Iterable[_Union[VersionWeight, _Mapping]]] = ...) -> None: ...
