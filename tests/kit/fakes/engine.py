"""An engine and registry that a test scripts: answers and failures by method name, in order."""

import asyncio
import threading
from collections import defaultdict
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2

from bend.v1 import (
    engine_service_pb2_grpc,
    executor_service_pb2_grpc,
    registry_service_pb2_grpc,
)


class Refusal(Exception):
    """A gRPC error to answer with; `reason` travels as ErrorInfo."""

    def __init__(
        self,
        code: grpc.StatusCode,
        text: str,
        reason: str = "",
        metadata: dict[str, str] | None = None,
        violations: list[tuple[str, str, str]] | None = None,
    ) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.details: list[AnyMessage] = []
        if reason:
            info = error_details_pb2.ErrorInfo(reason=reason, domain="bend.v1", metadata=metadata)
            self._pack(info)
        if violations:
            bad = error_details_pb2.BadRequest()
            for field, description, why in violations:
                bad.field_violations.add(field=field, description=description, reason=why)
            self._pack(bad)

    def _pack(self, message: Any) -> None:
        packed = AnyMessage()
        packed.Pack(message)
        self.details.append(packed)

    async def abort(self, context: Any) -> None:
        """End a call with this error."""
        status = status_pb2.Status(code=self.code.value[0], message=self.text, details=self.details)
        await context.abort(
            self.code, self.text, (("grpc-status-details-bin", status.SerializeToString()),)
        )


class FakeEngine:
    """Serves EngineService, RegistryService and pools on loopback, in a thread of its own.

    `script[method]` is a list of answers, used up in order, the last one for ever: a message, a
    Refusal, a list of both (a stream), or a function from the request to any of these.
    """

    def __init__(self) -> None:
        self.script: dict[str, list[Any]] = defaultdict(list)
        self.requests: dict[str, list[Any]] = defaultdict(list)
        self.metadata: list[dict[str, str]] = []
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._main())

    async def _main(self) -> None:
        self._stop = asyncio.Event()
        server = grpc.aio.server()
        for base, add in (
            (
                engine_service_pb2_grpc.EngineServiceServicer,
                engine_service_pb2_grpc.add_EngineServiceServicer_to_server,
            ),
            (
                registry_service_pb2_grpc.RegistryServiceServicer,
                registry_service_pb2_grpc.add_RegistryServiceServicer_to_server,
            ),
            (
                executor_service_pb2_grpc.ExecutorServiceServicer,
                executor_service_pb2_grpc.add_ExecutorServiceServicer_to_server,
            ),
        ):
            names = [name for name in vars(base) if name[0].isupper()]
            methods = {
                name: self._stream(name) if name.startswith("Watch") else self._unary(name)
                for name in names
            }
            add(type("Scripted", (base,), methods)(), server)
        self.port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        self._ready.set()
        await self._stop.wait()
        await server.stop(None)

    def _next(self, name: str, request: Any, context: Any) -> Any:
        self.requests[name].append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        answers = self.script[name]
        if not answers:
            return Refusal(grpc.StatusCode.UNIMPLEMENTED, f"no script for {name}")
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return answer(request) if callable(answer) else answer

    def _unary(self, name: str) -> Any:
        async def call(_: Any, request: Any, context: Any) -> Any:
            answer = self._next(name, request, context)
            if isinstance(answer, Refusal):
                await answer.abort(context)
            return answer

        return call

    def _stream(self, name: str) -> Any:
        async def call(_: Any, request: Any, context: Any) -> None:
            answers = self._next(name, request, context)
            for answer in answers if isinstance(answers, list) else [answers]:
                if isinstance(answer, Refusal):
                    await answer.abort(context)
                else:
                    await context.write(answer)

        return call
