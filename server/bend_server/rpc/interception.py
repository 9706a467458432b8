"""What stands before every servicer: identity, permission, limits, deadline, and error status."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.rpc import status_pb2

from bend_server.rpc import errors, identity, validation
from bend_server.rpc.permissions import RULES, Rule

Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler | None]]
MARGIN_S = 0.05
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class Gate(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Wraps every handler, once per method.

    Args:
        authenticator: says who calls.
        rules: method → what it needs; a method without a rule is not served.
    """

    def __init__(
        self, authenticator: identity.Authenticator, rules: dict[str, Rule] | None = None
    ) -> None:
        self._authenticator = authenticator
        self._rules = RULES if rules is None else rules
        self._wrapped: dict[str, grpc.RpcMethodHandler] = {}

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler | None:
        """Return the handler of a method with everything before it; None for unknown methods."""
        method = handler_call_details.method
        known = self._wrapped.get(method)
        if known is not None:
            return known
        handler = await continuation(handler_call_details)
        rule = self._rules.get(method)
        if handler is None or rule is None:
            return None
        wrapped = self._wrap(method, rule, handler)
        self._wrapped[method] = wrapped
        return wrapped

    def _wrap(
        self, method: str, rule: Rule, handler: grpc.RpcMethodHandler
    ) -> grpc.RpcMethodHandler:
        serializers = {
            "request_deserializer": validation.reading(handler.request_deserializer),
            "response_serializer": handler.response_serializer,
        }
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(
                self._answering(method, rule, handler.unary_unary), **serializers
            )
        if handler.stream_unary:
            return grpc.stream_unary_rpc_method_handler(
                self._answering(method, rule, handler.stream_unary), **serializers
            )
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(
                self._streaming(method, rule, handler.unary_stream), **serializers
            )
        return grpc.stream_stream_rpc_method_handler(
            self._streaming(method, rule, handler.stream_stream), **serializers
        )

    def _answering(self, method: str, rule: Rule, behavior: Any) -> Any:
        async def serve(request: Any, context: Any) -> Any:
            try:
                identity.set_peer(self._authenticator.admit(context, rule))
                request = _checked(request, rule)
                async with asyncio.timeout(_bound(context, rule)):
                    return await behavior(request, context)
            except (asyncio.CancelledError, grpc.aio.AbortError):
                raise
            except Exception as error:  # noqa: BLE001 - every fault becomes a status
                status = _told(error, method)
            abort = _abort(context, status)
            # The abort's own traceback would hold both, and the call holds the abort.
            del request, context
            return await abort

        return serve

    def _streaming(self, method: str, rule: Rule, behavior: Any) -> Any:
        async def serve(request: Any, context: Any) -> None:
            try:
                identity.set_peer(self._authenticator.admit(context, rule))
                answers = behavior(_checked(request, rule), context)
                if hasattr(answers, "__aiter__"):
                    async with contextlib.aclosing(answers):
                        async for answer in answers:
                            await context.write(answer)
                else:
                    await answers
            except (asyncio.CancelledError, grpc.aio.AbortError):
                raise
            except Exception as error:  # noqa: BLE001 - every fault becomes a status
                status = _told(error, method)
            else:
                return
            abort = _abort(context, status)
            del request, context
            await abort

        return serve


def _checked(request: Any, rule: Rule) -> Any:
    if not rule.validate:
        # A stream's servicer sees to unreadable messages itself.
        validation.check_readable(request)
        return request
    if hasattr(request, "__aiter__"):
        return _checked_stream(request)
    validation.check(request)
    return request


async def _checked_stream(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        validation.check(request)
        yield request


def _bound(context: Any, rule: Rule) -> float | None:
    """Return the seconds that a call may take: the caller's own deadline, or the rule's."""
    left: float | None = context.time_remaining()
    if left is None:
        return rule.deadline_s
    left = max(left - MARGIN_S, 0.001)
    return left if rule.deadline_s is None else min(left, rule.deadline_s)


def _told(error: BaseException, method: str) -> status_pb2.Status:
    """Return the status of an error, and let go of its frames.

    They hold the request, often the error too: a refused request of 60 MB would stay until a
    collection of cycles, which a quiet server does not make.
    """
    status = errors.translate(error, method)
    left: list[BaseException | None] = [error]
    seen: set[int] = set()
    while left:
        one = left.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            one.__traceback__ = None
            left += [one.__cause__, one.__context__]
    return status


async def _abort(context: Any, status: status_pb2.Status) -> None:
    aborting = context.abort(
        _CODES[status.code],
        status.message,
        ((errors.DETAILS_KEY, status.SerializeToString()),),
    )
    del context
    await aborting
