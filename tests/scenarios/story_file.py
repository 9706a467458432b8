"""The scenario language: commands to the core's machine, and what comes of them.

A file is a list of blocks, parted by empty lines. A block is a command (and its lines), `----`, and
the expected output. Lines that begin with `#` are comments. Commands:

    plan                                 its lines: ID [after=A,B] [run_if=failure|always]
                                         [attempts=N] [allow_failure] [skip]
    complete TASK [JSON]                 the open try completes
    fail TASK REASON [retryable]         the open try fails
    timeout TASK                         the open try runs past its timeout
    lose TASK                            it completes, and the engine dies before the commit
    late TASK TRY                        a COMPLETED result of that try arrives
    cancel WHO WHY                       a user cancels
    wait SECONDS                         time passes; timers that are due fire
    crash                                the engine dies; recovery reads the rows
    show                                 nothing happens
"""

from pathlib import Path

from bend_server.core import machine
from bend_server.core.effects import Effects, TimerKind
from bend_server.core.model import (
    EventKind,
    ExecutionStatus,
    Failure,
    ResultRow,
    RunIf,
    TaskStatus,
)
from bend_server.core.plan import RetryPolicy, Scope
from tests.kit.machine_run import SECOND_US, Run
from tests.kit.plans import Task, make_plan

SEPARATOR = "----"


def _never(scope: Scope) -> bool:
    return False


def parse_task(line: str) -> Task:
    """Read one line of a plan."""
    name, *words = line.split()
    options = dict(word.split("=", 1) if "=" in word else (word, "") for word in words)
    return Task(
        id=name,
        after=options["after"].split(",") if "after" in options else (),
        run_if=RunIf[options.get("run_if", "success").upper()],
        condition=_never if "skip" in options else None,
        allow_failure="allow_failure" in options,
        retry=RetryPolicy(attempts_max=int(options.get("attempts", "1"))),
    )


class StoryTeller:
    """Runs the commands of one file."""

    def __init__(self) -> None:
        self.run: Run | None = None

    def tell(self, command: str, lines: list[str]) -> list[str]:
        """Run a command; return what came of it, one line each."""
        name, *words = command.split()
        if name == "plan":
            self.run = Run(make_plan([parse_task(line) for line in lines]))
            return self._what_came(self.run)
        run = self.run
        if run is None:
            raise ValueError("a story begins with a plan")
        run.fresh()
        if name == "late":
            task, try_ = words
            counted = run.apply(run.outcome(task, try_=int(try_)))
            return self._what_came(run) if counted else ["stale"]
        self._command(run, name, words)
        return self._what_came(run)

    @staticmethod
    def _command(run: Run, name: str, words: list[str]) -> None:
        if name == "complete":
            run.complete(words[0], (words[1] if len(words) > 1 else "1").encode())
        elif name == "fail":
            run.fail(words[0], words[1], retryable="retryable" in words)
        elif name == "timeout":
            run.apply(run.outcome(words[0], TaskStatus.TIMED_OUT))
        elif name == "lose":
            outcome = run.outcome(words[0])
            machine.apply(run.state, outcome, run.now_us, run.chance, Effects())
            run.crash()
        elif name == "cancel":
            run.cancel(" ".join(words[1:]), words[0])
        elif name == "wait":
            run.pass_time(float(words[0]))
        elif name == "crash":
            run.crash()
        elif name != "show":
            raise ValueError(f"unknown command: {name}")

    def _what_came(self, run: Run) -> list[str]:
        run.check_replay()
        effects = run.last
        tasks = run.plan.tasks
        told = {row.seq: self._result(run, row) for row in effects.results}
        for event in effects.events:
            reason = Failure.from_json(event.body).reason
            by = f" by {event.actor}" if event.actor else ""
            told[event.seq] = f"row {event.seq} event {EventKind(event.kind).name}{by}: {reason}"
        lines = [told[seq] for seq in sorted(told)]
        lines += [f"ready {tasks[r.task].id} try {r.try_}" for r in effects.ready]
        lines += [f"cancel {tasks[c.task].id} try {c.try_}" for c in effects.cancels]
        for timer in effects.timers:
            if timer.kind != TimerKind.EXECUTION:
                wait_s = (timer.due_us - run.now_us) / SECOND_US
                lines.append(f"timer {TimerKind(timer.kind).name} in {wait_s:g} s")
        for finish in effects.finishes:
            error = "" if finish.error is None else f" {Failure.from_json(finish.error).reason}"
            output = "" if finish.output is None else f" {finish.output.decode()}"
            lines.append(f"finish {ExecutionStatus(finish.status).name}{output}{error}")
        states = " ".join(f"{task}={status}" for task, status in run.statuses().items())
        return [*lines, f"{run.ended}: {states}"]

    @staticmethod
    def _result(run: Run, row: ResultRow) -> str:
        text = (
            f"row {row.seq} {run.plan.tasks[row.task].id} try {row.try_} "
            f"attempt {row.attempt} {TaskStatus(row.status).name}"
        )
        return text if row.retry_at_us is None else f"{text}, another is due"


def rewritten(path: Path) -> str:
    """Run a file's commands; return the file with what really came of them."""
    teller = StoryTeller()
    blocks: list[str] = []
    for block in path.read_text(encoding="utf-8").strip().split("\n\n"):
        head = block.split(f"\n{SEPARATOR}", 1)[0]
        said = [line for line in head.splitlines() if not line.startswith("#")]
        if not said:
            blocks.append(head)
            continue
        came = teller.tell(said[0], said[1:])
        blocks.append("\n".join([head, SEPARATOR, *came]))
    return "\n\n".join(blocks) + "\n"
