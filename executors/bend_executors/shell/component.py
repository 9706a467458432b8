"""The component: a command of the operator's list, run without any shell in a sandbox."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any, TypedDict

from bend import Context, Final, RetryableError, TerminalError, component
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
from bend_executors.shell.commands import Command

STDIN_BYTES_MAX = 1024 * 1024
OUTPUT_BYTES_MAX = 1024 * 1024
SHOWN_CHARS = 2000
CPU_CODE = 128 + 24
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}


class Answer(TypedDict):
    """What a command gave. `truncated`: stdout or stderr was longer than what stands here."""

    exit_code: int
    stdout: str
    stderr: str
    truncated: bool


class Lines:
    """Lines on their way from the pipes to the task; the budget bounds them."""

    def __init__(self, context: Context, stream: str) -> None:
        self.waiting: asyncio.Queue[str] = asyncio.Queue()
        self._context = context
        self._stream = stream

    def take(self, level: str, text: str) -> None:
        """Send a line to the log, or keep it as a partial output."""
        if self._stream == "partials" and level == "info":
            self.waiting.put_nowait(text)
        else:
            self._context.log(text, level)


class ShellComponent:
    """Holds the warm pool and the list of commands."""

    def __init__(self, commands: Mapping[str, Command], rules: Rules, size: Size) -> None:
        self._commands = commands
        self.overtime_s = OVERTIME_S
        shown = rules.shown()
        # A program that lies elsewhere is shown too; its libraries are the operator's to name.
        real = [command.file for command in commands.values()]
        more = [p for p in real if not any(p.startswith(f"{place}/") for place in shown)]
        self.pool = Pool("shell", replace(rules, read=(*rules.read, *more)), size)

    @component("shell", version="1.0.0", long_running=True)
    async def run(
        self,
        context: Context,
        command: str,
        arguments: list[str] | None = None,
        stdin: str = "",
    ) -> AsyncIterator[str | Final[Answer]]:
        """Run a command that the operator allowed, with arguments that its list allows.

        No shell reads anything: each argument reaches the program as it is. The program runs in
        a sandbox of its own: no network, a fresh working folder, a clean environment, bounded
        time, memory and processes. An exit code other than 0 fails the task as `EXIT_<code>`.
        """
        deadline_s = time.monotonic() + context.timeout_s + self.overtime_s
        chosen = self._chosen(command, arguments or [], stdin)
        async with self.pool.taken(context.namespace) as sandbox:
            lines = Lines(context, chosen.stream)
            budget = None if chosen.stream == "none" else Budget(lines.take)
            context.log(f"sandbox: {sandbox.isolation.name} ({sandbox.isolation.promise})", "debug")
            stdout = Output(sandbox.stdout, "info", budget, OUTPUT_BYTES_MAX)
            stderr = Output(sandbox.stderr, "warning", budget, OUTPUT_BYTES_MAX)
            try:
                running = asyncio.ensure_future(
                    self._run(sandbox, chosen, arguments or [], stdin, deadline_s)
                )
                try:
                    async with aclosing(arriving(lines, running)) as found:
                        async for line in found:
                            yield line
                finally:
                    running.cancel()
            finally:
                sandbox.kill()
                stdout.close()
                stderr.close()
                if budget is not None:
                    budget.close()
            while not lines.waiting.empty():
                yield lines.waiting.get_nowait()
            yield Final(answer(chosen, running.result(), stdout, stderr, sandbox))

    def _chosen(self, name: str, arguments: list[str], stdin: str) -> Command:
        """Return the command that may run. Raises TerminalError."""
        chosen = self._commands.get(name)
        if chosen is None:
            raise TerminalError("COMMAND_UNKNOWN", f"the operator allows no command '{name}'")
        chosen.check(arguments)
        if len(stdin.encode("utf-8", "replace")) > STDIN_BYTES_MAX:
            raise TerminalError("INVALID_INPUT", f"stdin: at most {STDIN_BYTES_MAX} bytes")
        return chosen

    async def _run(
        self,
        sandbox: Sandbox,
        chosen: Command,
        arguments: list[str],
        stdin: str,
        deadline_s: float,
    ) -> int:
        """Start the program, wait for its end, return its code. Raises ComponentError."""
        job = {
            "kind": "program",
            "program": chosen.file,
            "name": chosen.program,
            "arguments": arguments,
            "stdin": stdin,
            "environment": ENVIRONMENT | scratch(sandbox) | dict(chosen.environment),
        }
        details = {"isolation": sandbox.isolation.name, "command": chosen.name}
        try:
            async with asyncio.timeout(max(0.0, deadline_s - time.monotonic())):
                await sandbox.send(job)
                try:
                    message = await sandbox.receive()
                except Ended:
                    return await self.pool.exit_code(sandbox)
        except TimeoutError:
            raise RetryableError(
                "TIMEOUT", "it did not end in time and was killed", details=details
            ) from None
        except Garbage as error:
            raise TerminalError("SANDBOX_PROTOCOL", str(error), details=details) from None
        except Ended:
            raise RetryableError("SANDBOX_LOST", "the sandbox went", details=details) from None
        told = message.get("error")
        text = str(told.get("message", "")) if isinstance(told, dict) else "no message"
        raise TerminalError("PROGRAM_NOT_STARTED", f"{chosen.name}: {text}", details=details)


def scratch(sandbox: Sandbox) -> dict[str, str]:
    """Return the variables that name the working folder."""
    place = sandbox.folder
    return {"HOME": place or "/scratch", "TMPDIR": place or "/tmp"}  # noqa: S108 - inside


async def arriving(lines: Lines, running: "asyncio.Future[int]") -> AsyncGenerator[str, None]:
    """Yield lines while a program runs. Raises what its run raises."""
    while not running.done():
        line = asyncio.ensure_future(lines.waiting.get())
        both: set[asyncio.Future[Any]] = {line, running}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not line.done():
                line.cancel()
        if line.done() and not line.cancelled():
            yield line.result()
    running.result()


def answer(chosen: Command, code: int, stdout: Output, stderr: Output, sandbox: Sandbox) -> Answer:
    """Return a program's output, or raise what its exit code means."""
    if code == 0:
        return {
            "exit_code": 0,
            "stdout": stdout.text,
            "stderr": stderr.text,
            "truncated": stdout.truncated or stderr.truncated,
        }
    details: dict[str, Any] = {
        "exit_code": code,
        "stdout": stdout.text[-SHOWN_CHARS:],
        "stderr": stderr.text[-SHOWN_CHARS:],
        "isolation": sandbox.isolation.name,
    }
    if sandbox.over_memory:
        text = f"{chosen.name}: all its processes together took more memory than the limit"
        raise TerminalError("MEMORY_LIMIT", text, details=details)
    if code == CPU_CODE and code not in chosen.retryable:
        raise TerminalError(
            "CPU_LIMIT", f"{chosen.name}: processor time is used up", details=details
        )
    message = f"{chosen.name} ended with the code {code}"
    if code in chosen.retryable:
        raise RetryableError(f"EXIT_{code}", message, details=details)
    raise TerminalError(f"EXIT_{code}", message, details=details)
