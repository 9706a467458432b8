"""The component: JSON becomes a message, a call, and JSON again."""

import asyncio
import base64
import binascii
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Literal

from bend import Context, Final, RetryableError, TerminalError, component
from bend_executors.bounds import PIECES_KEPT_MAX
from bend_executors.grpc.metadata import checked
from bend_executors.grpc.options import Connection, Options

if TYPE_CHECKING:
    from bend_executors.grpc.descriptors import Method
    from bend_executors.grpc.links import Link, Links

Collect = Literal["all", "last", "count"]
# Larger messages become JSON in a thread.
SMALL_BYTES = 32 * 1024
# How protobuf names, from the outside in, where a value does not fit.
FIELD = re.compile(r'(?:Failed to parse |has no field named ")(\w+)(?: field|")')


class GrpcComponent:
    """Holds the channels; protobuf's and reflection's modules are loaded with the first task."""

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or Options()
        self._links: Links | None = None

    def _opened(self) -> "Links":
        if self._links is None:
            from bend_executors.grpc.links import Links

            self._links = Links(self.options)
        return self._links

    def stats(self) -> dict[str, int]:
        """Return how many channels there are, and how many calls use them."""
        return self._opened().stats()

    async def close(self) -> None:
        """Close all channels."""
        if self._links is not None:
            await self._links.close()

    @component("grpc", version="1.0.0")
    async def invoke(
        self,
        context: Context,
        method: str,
        target: str = "",
        connection: str = "",
        body: dict[str, Any] | None = None,
        metadata: dict[str, str] | None = None,
        tls: bool = True,
        descriptor_set: str = "",
        proto_names: bool = False,
        defaults: bool = False,
        collect: Collect = "all",
        response_bytes_max: int | None = None,
    ) -> AsyncIterator[Any]:
        """Call a method of a gRPC service and answer its message as JSON.

        `method` is `package.Service/Method`. The service is `target` (host:port, over TLS unless
        `tls` is false) or one of the operator's `connection`s. Messages are described by the
        server's reflection, or by `descriptor_set` (base64 of a FileDescriptorSet). A stream's
        messages are partial outputs; the output is then all, the last, or their count (`collect`).
        The deadline of the call is the task's. A status fails the task with the reason
        `GRPC_<CODE>`.
        """
        from bend_executors.grpc.descriptors import names

        wanted = names(method)
        known = self._connection(target, connection, context.namespace, tls=tls)
        sent = checked(metadata)
        if known is not None:
            sent = [pair for pair in sent if pair[0] not in dict(known.metadata)]
            sent += known.metadata
        if all(key != "idempotency-key" for key, _ in sent):
            sent.append(("idempotency-key", context.idempotency_key))
        given = decoded(descriptor_set) or (known.descriptor_set if known is not None else None)
        shape = Shape(proto_names, defaults, self._limit(response_bytes_max), collect)
        call = Call(wanted.text, body or {}, sent, shape, context.timeout_s)
        links = self._opened()
        address = known.target if known is not None else target
        secure = known.tls if known is not None else tls
        try:
            async with asyncio.timeout(context.timeout_s):
                opening = links.link(context.namespace, address, known, tls=secure)
                link = await opening.__aenter__()
        except TimeoutError:
            raise RetryableError("GRPC_DEADLINE_EXCEEDED", f"{wanted.text}: no address") from None
        try:
            found = await call.prepare(link, wanted, given)
            async with aclosing(call.answers(link, found)) as values:
                async for value in values:
                    yield value
        finally:
            await opening.__aexit__(None, None, None)

    def _limit(self, asked: int | None) -> int:
        if asked is None:
            return self.options.response_bytes_max
        if asked < 1:
            raise TerminalError("INVALID_INPUT", "response_bytes_max: at least 1 is wanted")
        return min(asked, self.options.response_bytes_max)

    def _connection(
        self, target: str, name: str, namespace: str, *, tls: bool
    ) -> Connection | None:
        """Return the operator's connection; None for a target of the workflow's own."""
        if bool(target) == bool(name):
            raise TerminalError("INVALID_INPUT", "either target or connection is wanted")
        if not name:
            return None
        found = self.options.connections.get(name)
        if found is None or (found.namespaces and namespace not in found.namespaces):
            raise TerminalError(
                "CONNECTION_NOT_FOUND",
                f"the operator has no connection {name[:100]!r} for namespace {namespace}",
            )
        if not tls:
            raise TerminalError("INVALID_INPUT", "tls: a connection's own setting holds")
        return found


def decoded(text: str) -> bytes | None:
    """Return the bytes of a base64 input; None when it is empty."""
    if not text:
        return None
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise TerminalError(
            "INVALID_INPUT", f"descriptor_set: {error}", details={"field": "descriptor_set"}
        ) from None


class Shape:
    """How messages become output."""

    __slots__ = ("collect", "defaults", "limit", "proto_names")

    def __init__(self, proto_names: bool, defaults: bool, limit: int, collect: str) -> None:
        self.proto_names = proto_names
        self.defaults = defaults
        self.limit = limit
        self.collect = collect


class Call:
    """One task's call."""

    def __init__(
        self,
        method: str,
        body: dict[str, Any],
        metadata: list[tuple[str, str]],
        shape: Shape,
        timeout_s: float,
    ) -> None:
        self._method = method
        self._body = body
        self._metadata = metadata
        self._shape = shape
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + timeout_s
        self._size = 0

    def _left_s(self) -> float:
        return max(0.001, self._deadline - self._loop.time())

    async def prepare(self, link: "Link", wanted: Any, given: bytes | None) -> "Method":
        """Return the method, asking the server when nothing else describes it."""
        import grpc.aio

        from bend_executors.grpc.statuses import failure

        try:
            return await link.method(wanted, given, self._left_s(), self._metadata)
        except grpc.aio.AioRpcError as error:
            raise failure(error, f"reflection of {wanted.service}") from None
        except TimeoutError:
            raise RetryableError(
                "GRPC_DEADLINE_EXCEEDED", f"{self._method}: the server was not described in time"
            ) from None

    async def answers(self, link: "Link", method: "Method") -> AsyncGenerator[Any, None]:
        """Yield a stream's messages, and at last Final(output)."""
        import grpc
        import grpc.aio

        from bend_executors.grpc.statuses import failure

        request = self._request(method)
        opened = link.channel.unary_stream if method.streams else link.channel.unary_unary
        stub = opened(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.response.FromString,
        )
        call = stub(request, timeout=self._left_s(), metadata=self._metadata)
        try:
            if not method.streams:
                yield Final(await self._json(await call, method))
                return
            kept: list[Any] = []
            count = 0
            async for message in call:
                value = await self._json(message, method)
                count += 1
                if self._shape.collect == "all":
                    if count > PIECES_KEPT_MAX:
                        raise TerminalError(
                            "RESPONSE_TOO_LARGE",
                            f"{self._method} answered more than {PIECES_KEPT_MAX} messages for one "
                            "output: collect 'last' or 'count' takes any number",
                        )
                    kept.append(value)
                elif self._shape.collect == "last":
                    kept = [value]
                yield value
            last = kept[0] if kept else None
            outputs = {"all": kept, "last": last, "count": count}
            yield Final(outputs[self._shape.collect])
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                link.forget(self._method.rpartition("/")[0])
            raise failure(error, self._method) from None
        finally:
            call.cancel()

    def _request(self, method: "Method") -> Any:
        """Return the request's message. Raises TerminalError INVALID_INPUT naming the field."""
        from google.protobuf import json_format

        message = method.request()
        try:
            json_format.ParseDict(self._body, message, descriptor_pool=method.pool)
        except (json_format.ParseError, TypeError, ValueError, RecursionError) as error:
            field = ".".join(["body", *FIELD.findall(str(error))])
            raise TerminalError(
                "INVALID_INPUT",
                f"{field}: {self._method} takes {method.request.DESCRIPTOR.full_name}: {error}",
                details={"field": field, "method": self._method},
            ) from None
        return message

    async def _json(self, message: Any, method: "Method") -> Any:
        """Return a message as JSON. Raises TerminalError RESPONSE_TOO_LARGE, INVALID_RESPONSE."""
        shape = self._shape
        size = message.ByteSize()
        self._size += size
        if self._size > shape.limit:
            raise TerminalError(
                "RESPONSE_TOO_LARGE", f"{self._method} answered more than {shape.limit} bytes"
            )
        if size <= SMALL_BYTES:
            return self._plain(message, method)
        # Millions of small fields take longer than other tasks should wait.
        return await asyncio.to_thread(self._plain, message, method)

    def _plain(self, message: Any, method: "Method") -> Any:
        from google.protobuf import json_format

        shape = self._shape
        try:
            return json_format.MessageToDict(
                message,
                preserving_proto_field_name=shape.proto_names,
                always_print_fields_with_no_presence=shape.defaults,
                descriptor_pool=method.pool,
            )
        except (json_format.Error, TypeError, ValueError, RecursionError) as error:
            raise TerminalError("INVALID_RESPONSE", f"{self._method}: {error}") from None
