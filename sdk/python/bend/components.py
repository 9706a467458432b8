"""Components: plain functions, coroutines and generators with a contract from their type hints.

    @component("vision.detect", version="1.2.0", long_running=True)
    async def detect(image: str, threshold: float = 0.5) -> dict[str, float]: ...

The parameters by name are the input; a parameter annotated with `Context` gets the task's context
instead. A generator's yields are partial outputs; its output is `Final(x)` when it yields one,
else the last yield.

What an exception means: `RetryableError` and `TerminalError` say it themselves. An input that
does not fit is the terminal INVALID_INPUT and names the field; an output that is not JSON is the
terminal INVALID_OUTPUT. Any other exception is retryable, its reason the class name in
UPPER_SNAKE_CASE (`ConnectionError` → CONNECTION_ERROR), its message the exception's text.
"""

import inspect
import re
import typing
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import orjson

from bend import payloads
from bend.errors import TerminalError
from bend.schema import Mismatch, Shape, ShapeBuilder

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}([.][a-z][a-z0-9_]{0,62}){0,3}")
VERSION = re.compile(r"(0|[1-9][0-9]{0,5})[.](0|[1-9][0-9]{0,5})[.](0|[1-9][0-9]{0,5})")
SCHEMA_BYTES_MAX = 256 * 1024
LABELS_MAX = 32
LOG_CHARS_MAX = 32 * 1024
MARK = "__bend_component__"

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(slots=True)
class Final(Generic[T]):
    """Yield it to end a generator with an output that is no partial output."""

    value: T


class Kind(Enum):
    """How a component's function is called."""

    PLAIN = "plain"
    COROUTINE = "coroutine"
    GENERATOR = "generator"
    ASYNC_GENERATOR = "async generator"


class TaskSink(Protocol):
    """Where a context sends what the author tells it."""

    cancelled: bool

    def log(self, level: str, message: str) -> None:
        """Send one log line."""
        ...

    def beat(self) -> None:
        """Tell that the task makes progress."""
        ...


class Context:
    """What a running task may know and tell; a parameter annotated with it receives it.

    Thread-safe: plain functions run in threads.
    """

    __slots__ = (
        "_sink",
        "attempt",
        "execution_id",
        "item",
        "iteration",
        "namespace",
        "task",
        "timeout_s",
        "traceparent",
    )

    def __init__(
        self,
        sink: TaskSink,
        *,
        execution_id: str,
        task: str,
        item: int = -1,
        attempt: int = 1,
        iteration: int = 0,
        namespace: str = "default",
        timeout_s: float = 300.0,
        traceparent: str = "",
    ) -> None:
        self._sink = sink
        self.execution_id = execution_id
        self.task = task
        self.item = item
        self.attempt = attempt
        self.iteration = iteration
        self.namespace = namespace
        self.timeout_s = timeout_s
        self.traceparent = traceparent

    @property
    def idempotency_key(self) -> str:
        """The same text for every attempt and redelivery of this task (item, iteration).

        A component runs at least once; give this key to what must happen once.
        """
        return f"{self.namespace}/{self.execution_id}/{self.task}/{self.item}/{self.iteration}"

    @property
    def cancelled(self) -> bool:
        """True once the result is no longer wanted; a plain function may then return early."""
        return self._sink.cancelled

    def heartbeat(self) -> None:
        """Tell that the task makes progress; needed when the component has `heartbeats=True`."""
        self._sink.beat()

    def log(self, message: object, level: str = "info") -> None:
        """Send a log line to those who watch the execution.

        Args:
            message: text, cut at 32 Ki characters.
            level: debug, info, warning or error.
        """
        self._sink.log(level, str(message)[:LOG_CHARS_MAX])


class Parameter(NamedTuple):
    """One input field: its check, and whether it may be left out."""

    name: str
    shape: Shape
    required: bool


class Component:
    """A function with its contract; made by `@component`, served by a `Worker`."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str,
        version: str,
        labels: Mapping[str, str],
        long_running: bool,
        heartbeats: bool,
        description: str,
    ) -> None:
        if not NAME.fullmatch(name):
            raise ValueError(f"component name {name!r} must match {NAME.pattern}")
        if not VERSION.fullmatch(version):
            raise ValueError(f"version {version!r} of {name} must be major.minor.patch")
        if len(labels) > LABELS_MAX:
            raise ValueError(f"{name} has {len(labels)} labels, at most {LABELS_MAX}")
        self.function = function
        self.name = name
        self.version = version
        self.labels = dict(labels)
        self.long_running = long_running
        self.heartbeats = heartbeats
        self.description = description or inspect.getdoc(function) or ""
        self.kind = kind_of(function)
        self.context_name = ""
        self.parameters: dict[str, Parameter] = {}
        self.open_input = False
        self._read_signature()
        self._required = [p.name for p in self.parameters.values() if p.required]
        self._checks = {p.name: p.shape.convert for p in self.parameters.values()}

    def _read_signature(self) -> None:
        builder = ShapeBuilder()
        hints = typing.get_type_hints(self.function, include_extras=True)
        properties: dict[str, Any] = {}
        for at, (name, parameter) in enumerate(inspect.signature(self.function).parameters.items()):
            hint = hints.get(name, Any)
            if at == 0 and name == "self" and name not in hints:
                continue
            if hint is Context:
                self.context_name = name
            elif parameter.kind is parameter.VAR_KEYWORD:
                self.open_input = True
            elif parameter.kind in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
                raise TypeError(f"{self.name}: parameter {name} cannot be given by name")
            else:
                properties[name] = self._add_parameter(builder, name, hint, parameter)
        schema: dict[str, Any] = {"type": "object", "properties": properties}
        required = [p.name for p in self.parameters.values() if p.required]
        if required:
            schema["required"] = required
        if not self.open_input:
            schema["additionalProperties"] = False
        self.input_schema = self._encoded(schema, builder, "input")
        builder = ShapeBuilder()
        answer = self._output_hint(hints.get("return", Any))
        try:
            shape = builder.shape(answer)
        except TypeError as error:
            raise TypeError(f"{self.name}: return type: {error}") from None
        self.output_schema = self._encoded(shape.schema, builder, "output") if shape.schema else b""

    def _add_parameter(
        self, builder: ShapeBuilder, name: str, hint: Any, parameter: inspect.Parameter
    ) -> dict[str, Any]:
        try:
            shape = builder.shape(hint)
        except TypeError as error:
            raise TypeError(f"{self.name}: parameter {name}: {error}") from None
        required = parameter.default is parameter.empty
        self.parameters[name] = Parameter(name, shape, required)
        if required:
            return shape.schema
        try:
            default = orjson.loads(orjson.dumps(parameter.default, default=encode_more))
        except TypeError:
            return shape.schema
        return shape.schema | {"default": default}

    def _output_hint(self, hint: Any) -> Any:
        """Return what the output's type is: a generator's is its `Final[T]`, else its yields'."""
        if self.kind in (Kind.PLAIN, Kind.COROUTINE):
            return Any if hint is Final or typing.get_origin(hint) is Final else hint
        origin = typing.get_origin(hint)
        if not (isinstance(origin, type) and issubclass(origin, (Iterable, AsyncIterable))):
            return Any
        yielded = typing.get_args(hint)[0]
        options = typing.get_args(yielded) or (yielded,)
        for option in options:
            if option is Final:
                return Any
            if typing.get_origin(option) is Final:
                return typing.get_args(option)[0]
        return yielded

    def _encoded(self, schema: dict[str, Any], builder: ShapeBuilder, which: str) -> bytes:
        if builder.definitions:
            schema = schema | {"$defs": builder.definitions}
        data = orjson.dumps(schema, option=orjson.OPT_SORT_KEYS)
        if len(data) > SCHEMA_BYTES_MAX:
            raise ValueError(f"{self.name}: {which} schema has {len(data)} bytes, at most 256 KiB")
        return data

    def bind(self, data: bytes) -> dict[str, Any]:
        """Parse and check a task's input; return the keyword arguments without the context.

        Raises TerminalError INVALID_INPUT, which names the field.
        """
        try:
            values = payloads.loads(data) if data else {}
        except ValueError as error:
            raise TerminalError("INVALID_INPUT", f"the input is not JSON: {error}") from None
        if type(values) is not dict:
            raise TerminalError("INVALID_INPUT", "the input must be an object")
        checks = self._checks
        for key, value in values.items():
            if key not in checks or key == self.context_name:
                if self.open_input and key != self.context_name:
                    continue
                known = ", ".join(checks) or "none"
                raise TerminalError(
                    "INVALID_INPUT",
                    f"{key}: {self.name} has no such input; known: {known}",
                    details={"field": key},
                )
            convert = checks[key]
            if convert is not None:
                try:
                    values[key] = convert(value)
                except Mismatch as wrong:
                    field = f"{key}{wrong.path}"
                    raise TerminalError(
                        "INVALID_INPUT", f"{field}: {wrong.text}", details={"field": field}
                    ) from None
        for key in self._required:
            if key not in values:
                raise TerminalError("INVALID_INPUT", f"{key}: is missing", details={"field": key})
        return typing.cast("dict[str, Any]", values)

    def bound_to(self, method: Callable[..., Any]) -> "Component":
        """Return the same component with a bound method as its function."""
        copy = object.__new__(Component)
        copy.__dict__.update(self.__dict__)
        copy.function = method
        return copy


def encode(value: object) -> bytes:
    """Return a value as JSON. Raises TerminalError INVALID_OUTPUT for what JSON cannot carry."""
    try:
        return payloads.dumps(value, encode_more)
    except TypeError as error:
        raise TerminalError("INVALID_OUTPUT", f"the output is not JSON: {error}") from None


def encode_more(value: Any) -> Any:
    """Encode what orjson does not know: Pydantic models, sets, paths and tuples' kin."""
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return dump(mode="json")
    if isinstance(value, (set, frozenset)):
        return list(value)
    if hasattr(value, "__fspath__"):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not JSON serializable")


def kind_of(function: Callable[..., Any]) -> Kind:
    """Tell how a function is called."""
    if inspect.isasyncgenfunction(function):
        return Kind.ASYNC_GENERATOR
    if inspect.isgeneratorfunction(function):
        return Kind.GENERATOR
    if inspect.iscoroutinefunction(function):
        return Kind.COROUTINE
    return Kind.PLAIN


def component(
    name: str,
    *,
    version: str = "1.0.0",
    labels: Mapping[str, str] | None = None,
    long_running: bool = False,
    heartbeats: bool = False,
    description: str = "",
) -> Callable[[F], F]:
    """Declare a function as a component; the function itself stays as it is and callable.

    Args:
        name: for example `vision.detect`; up to four parts of lower-case letters, digits and _.
        version: `major.minor.patch`; raise it when the signature changes.
        labels: of the instances that serve it, matched by a task's `requires`; at most 32.
        long_running: tasks take seconds or more, and survive a reconnect of the worker.
        heartbeats: the function calls `Context.heartbeat`; a silent task then fails after its
            heartbeat_timeout.
        description: Markdown for people; default: the docstring.

    Raises:
        ValueError: a name, version or label breaks its rule.
        TypeError: a type hint cannot be carried as JSON, or a parameter not be given by name.
    """

    def declare(function: F) -> F:
        declared = Component(
            function,
            name=name,
            version=version,
            labels=labels or {},
            long_running=long_running,
            heartbeats=heartbeats,
            description=description,
        )
        setattr(function, MARK, declared)
        return function

    return declare


def component_of(target: Callable[..., Any]) -> Component:
    """Return the component that a decorated function or bound method is.

    Raises TypeError when the function has no `@component`.
    """
    declared = getattr(target, MARK, None)
    if not isinstance(declared, Component):
        label = getattr(target, "__qualname__", repr(target))
        raise TypeError(f"{label} is no component: decorate it with @component")
    return declared.bound_to(target) if inspect.ismethod(target) else declared
