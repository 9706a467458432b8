"""The component: one sandbox a task, what it sends becomes logs, partial outputs and the end."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from typing import Any, NoReturn

from bend import Context, Final, RetryableError, TerminalError, component
from bend.components import encode
from bend.tasks import reason_name
from bend_executors.python.modules import FUNCTION, Modules
from bend_executors.sandbox import (
    OVERTIME_S,
    Budget,
    Ended,
    Garbage,
    Output,
    Pool,
    Rules,
    Sandbox,
    Size,
)

SCRIPT_BYTES_MAX = 256 * 1024
# Together within what a failure's details may have.
TRACEBACK_CHARS, DETAILS_BYTES = 3000, 6000
REASON = re.compile(r"[A-Z][A-Z0-9_]{0,127}")
# What bubblewrap and a shell make of a signal: 128 and its number.
LOG_CHARS_MAX = 8 * 1024
DROPPED_PAUSE_S = 0.01
CPU_CODE, KILL_CODE = 128 + 24, 128 + 9
# What no further attempt changes; every other class is retryable, as the SDK has it.
TERMINAL_TYPES = {"SyntaxError": "INVALID_SCRIPT", "IndentationError": "INVALID_SCRIPT"}
TERMINAL_TYPES |= {"TabError": "INVALID_SCRIPT", "ModuleNotFoundError": "MODULE_NOT_FOUND"}
TERMINAL_TYPES |= {"InvalidOutput": "INVALID_OUTPUT", "MemoryError": "MEMORY_LIMIT"}


class PythonComponent:
    """Holds the warm pool and the operator's modules."""

    def __init__(self, rules: Rules, size: Size, modules: Modules | None) -> None:
        self.pool = Pool("python", rules, size)
        self._modules = modules
        self.overtime_s = OVERTIME_S

    @component("python", version="1.0.0", long_running=True)
    async def run(
        self,
        context: Context,
        script: str = "",
        function: str = "",
        input: Any = None,
        arguments: dict[str, Any] | None = None,
    ) -> AsyncIterator[Any]:
        """Run a script, or a function of the operator's modules, in a sandbox of its own.

        `script` defines `main` (called with `input`, then `arguments` by name, and the task's
        `context` when it asks for it), or sets `output`. `function` is `module:name`. What a
        generator yields is a partial output, what is printed a log line, what is returned the
        output. No network, no files but a scratch folder, bounded processor time, memory,
        processes; it is ended with all its children at the timeout.
        """
        deadline_s = time.monotonic() + context.timeout_s + self.overtime_s
        job = self._job(context, script, function, input, arguments or {})
        async with self.pool.taken(context.namespace) as sandbox:
            way = sandbox.isolation.name
            context.log(f"sandbox: {way} ({sandbox.isolation.promise})", "debug")
            budget = Budget(lambda level, text: context.log(text, level))
            outputs = [
                Output(sandbox.stdout, "info", budget),
                Output(sandbox.stderr, "warning", budget),
            ]
            try:
                await sandbox.send(job)
                while True:
                    kind, value = await self._next(sandbox, deadline_s, context.timeout_s)
                    if kind == "partial":
                        yield value
                    elif kind == "log":
                        await log(budget, value)
                    elif kind == "output":
                        yield Final(value)
                        return
                    else:
                        fail(value, way)
            except Ended:
                raise await self._died(sandbox) from None
            except Garbage as error:
                raise TerminalError(
                    "SANDBOX_PROTOCOL",
                    f"the sandbox was ended: {error}",
                    details={"isolation": way},
                ) from None
            finally:
                sandbox.kill()
                for output in outputs:
                    output.close()
                budget.close()

    def _job(
        self, context: Context, script: str, function: str, value: Any, arguments: dict[str, Any]
    ) -> dict[str, Any]:
        """Return the message that starts the task. Raises TerminalError."""
        if bool(script) == bool(function):
            raise TerminalError("INVALID_INPUT", "script or function: exactly one is wanted")
        if len(script.encode("utf-8", "replace")) > SCRIPT_BYTES_MAX:
            raise TerminalError("INVALID_INPUT", f"script: at most {SCRIPT_BYTES_MAX} bytes")
        packed = ""
        if function and FUNCTION.fullmatch(function) is None:
            raise TerminalError("INVALID_INPUT", "function: module:name is wanted")
        if self._modules is not None:
            packed = self._modules.packed()
        elif function:
            raise TerminalError("MODULES_UNUSABLE", "this installation has no folder of modules")
        known = {
            "execution_id": context.execution_id,
            "task": context.task,
            "item": context.item,
            "attempt": context.attempt,
            "iteration": context.iteration,
            "namespace": context.namespace,
            "timeout_s": context.timeout_s,
            "idempotency_key": context.idempotency_key,
        }
        return {
            "kind": "script",
            "script": script,
            "function": function,
            "input": value,
            "arguments": arguments,
            "context": known,
            "modules": packed,
        }

    async def _next(self, sandbox: Sandbox, deadline_s: float, timeout_s: float) -> tuple[str, Any]:
        """Return the next message. Raises RetryableError TIMEOUT, Ended, Garbage."""
        try:
            async with asyncio.timeout(max(0.0, deadline_s - time.monotonic())):
                # Reading does not wait when there is something to read: others have their turn.
                await asyncio.sleep(0)
                message = await sandbox.receive()
        except TimeoutError:
            raise RetryableError(
                "TIMEOUT",
                f"it ran for more than {timeout_s:g} s and was ended with its children",
                details={"isolation": sandbox.isolation.name},
            ) from None
        ((kind, value),) = message.items()
        if kind not in ("partial", "log", "output", "error"):
            raise Garbage("an unknown message")
        return kind, value

    async def _died(self, sandbox: Sandbox) -> RetryableError | TerminalError:
        """Return what the end of a sandbox without a result means."""
        # Its socket is closed but it may still run: it has nothing more to say.
        try:
            async with asyncio.timeout(1.0):
                code = await self.pool.exit_code(sandbox)
        except TimeoutError:
            sandbox.kill()
            code = await self.pool.exit_code(sandbox)
        details = {"exit_code": code, "isolation": sandbox.isolation.name}
        if sandbox.over_memory:
            text = "all its processes together took more memory than the limit"
            return TerminalError("MEMORY_LIMIT", text, details=details)
        if code == CPU_CODE:
            text = "the processor time of the limit is used up"
            return TerminalError("CPU_LIMIT", text, details=details)
        text = "it was killed" if code == KILL_CODE else f"it ended with the code {code}"
        return RetryableError("SCRIPT_DIED", f"{text} before it gave an output", details=details)


async def log(budget: Budget, value: Any) -> None:
    """Send a log line of `context.log`. Raises Garbage."""
    if not (isinstance(value, list) and len(value) == 2 and all(isinstance(v, str) for v in value)):
        raise Garbage("a log line that is none")
    if len(value[1]) > LOG_CHARS_MAX:
        raise Garbage("a log line that nobody would read")
    if not budget.log(value[0], value[1]):
        # The script is held up by its full socket: lines are not read faster than they count.
        await asyncio.sleep(DROPPED_PAUSE_S)


def fail(value: Any, isolation: str) -> NoReturn:
    """Raise what a script's failure means. Raises Garbage for what describes none."""
    if not isinstance(value, dict):
        raise Garbage("a failure that is none")
    name, message = str(value.get("type", "Exception")), str(value.get("message", ""))
    details: dict[str, Any] = {"isolation": isolation}
    if value.get("traceback"):
        details["traceback"] = str(value["traceback"])[-TRACEBACK_CHARS:]
    reason = value.get("reason")
    if reason is not None:
        if not REASON.fullmatch(str(reason)):
            details["reason"], reason = str(reason)[:128], "INVALID_REASON"
        if value.get("details") is not None and len(encode(value["details"])) <= DETAILS_BYTES:
            details["script"] = value["details"]
        if value.get("retryable") is not True:
            raise TerminalError(str(reason), message, details=details)
        wait = value.get("retry_after")
        sound = isinstance(wait, (int, float)) and 0 <= wait < 86_400 * 365
        raise RetryableError(
            str(reason), message, retry_after=wait if sound else None, details=details
        )
    if name in TERMINAL_TYPES:
        raise TerminalError(TERMINAL_TYPES[name], message or name, details=details)
    upper = reason_name(re.sub(r"\W", "_", name, flags=re.ASCII))
    raise RetryableError(
        upper if REASON.fullmatch(upper) else "SCRIPT_FAILED", message or name, details=details
    )
