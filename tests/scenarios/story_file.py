"""The scenario language: commands to the core's machine, and what comes of them.

A file is a list of blocks, parted by empty lines. A block is a command (and its lines), `----`, and
the expected output. Lines that begin with `#` are comments. Commands:

    plan [timeout=SECONDS] [pause_on_failure]
                                         its lines: ID [after=A,B] [run_if=failure|always]
                                         [attempts=N] [allow_failure] [skip] [items=N]
                                         [parallel=N] [rounds=N] [kind=wait|signal|…]
                                         [on_failure] [undoes=ID]
    complete TASK [JSON]                 the open try completes; an item is TASK[N]
    fail TASK REASON [retryable]         the open try fails
    timeout TASK                         the open try runs past its timeout
    lose TASK                            it completes, and the engine dies before the commit
    late TASK TRY                        a COMPLETED result of that try arrives
    begin TASK [NAME] [SECONDS]          a wait, signal (NAME) or approval begins
    signal NAME JSON                     somebody gives a signal
    decide TASK yes|no                   somebody decides an approval
    child TASK ID                        a child starts
    cancel WHO WHY                       a user cancels
    pause WHO WHY, resume WHO            a user pauses, and lets it go on
    retry WHO WHY, reset WHO TASK        a user opens a new run
    wait SECONDS                         time passes; timers that are due fire
    crash                                the engine dies; recovery reads the rows
    show                                 nothing happens
"""

from pathlib import Path
from typing import Protocol

import orjson

from bend_server.core import machine
from bend_server.core.effects import Effects, TimerKind
from bend_server.core.model import (
    ITEM_NONE,
    EventKind,
    EventRow,
    ExecutionStatus,
    Failure,
    Phase,
    ResultRow,
    RunIf,
    TaskKind,
    TaskStatus,
)
from bend_server.core.plan import Plan, RepeatPlan, RetryPolicy, Scope
from tests.kit.expressions import Items, Rounds
from tests.kit.machine_run import SECOND_US, Run
from tests.kit.plans import Task, make_plan

SEPARATOR = "----"


class Named(Protocol):
    """What is about a unit."""

    @property
    def task(self) -> int:
        """The task."""
        ...

    @property
    def item(self) -> int:
        """The item, or ITEM_NONE."""
        ...


def _never(scope: Scope) -> bool:
    return False


def parse_task(line: str) -> Task:
    """Read one line of a plan."""
    name, *words = line.split()
    options = dict(word.split("=", 1) if "=" in word else (word, "") for word in words)
    phase = Phase.MAIN
    if "on_failure" in options:
        phase = Phase.ON_FAILURE
    elif "undoes" in options:
        phase = Phase.COMPENSATION
    rounds = int(options.get("rounds", "0"))
    return Task(
        id=name,
        after=options["after"].split(",") if "after" in options else (),
        run_if=RunIf[options.get("run_if", "success").upper()],
        condition=_never if "skip" in options else None,
        allow_failure="allow_failure" in options,
        retry=RetryPolicy(attempts_max=int(options.get("attempts", "1"))),
        kind=TaskKind[options.get("kind", "component").upper()],
        phase=phase,
        for_each=Items(int(options["items"])) if "items" in options else None,
        parallel_max=int(options.get("parallel", "100")),
        repeat=RepeatPlan(Rounds(rounds), 100, 0) if rounds else None,
        undoes=options.get("undoes"),
    )


def parse_plan(head: str, lines: list[str]) -> Plan:
    """Read the block of a plan: its first line and its tasks."""
    words = head.split()[1:]
    timeout_s = next((int(word[8:]) for word in words if word.startswith("timeout=")), 86_400)
    return make_plan(
        [parse_task(line) for line in lines],
        timeout_us=timeout_s * SECOND_US,
        pause_on_failure="pause_on_failure" in words,
    )


def _unit(word: str) -> tuple[str, int]:
    """Read TASK or TASK[N]."""
    name, _, item = word.partition("[")
    return name, int(item.rstrip("]")) if item else ITEM_NONE


class StoryTeller:
    """Runs the commands of one file."""

    def __init__(self) -> None:
        self.run: Run | None = None

    def tell(self, command: str, lines: list[str]) -> list[str]:
        """Run a command; return what came of it, one line each."""
        name, *words = command.split()
        if name == "plan":
            self.run = Run(parse_plan(command, lines))
            return self._what_came(self.run)
        run = self.run
        if run is None:
            raise ValueError("a story begins with a plan")
        run.fresh()
        if name == "late":
            task, item = _unit(words[0])
            counted = run.apply(run.outcome(task, item=item, try_=int(words[1])))
            return self._what_came(run) if counted else ["stale"]
        if name in ("complete", "fail", "timeout", "lose"):
            self._outcome(run, name, words)
        elif name in ("begin", "signal", "decide", "child"):
            self._control(run, name, words)
        else:
            self._command(run, name, words)
        return self._what_came(run)

    @staticmethod
    def _outcome(run: Run, name: str, words: list[str]) -> None:
        task, item = _unit(words[0])
        if name == "complete":
            run.complete(task, (words[1] if len(words) > 1 else "1").encode(), item=item)
        elif name == "fail":
            run.fail(task, words[1], retryable="retryable" in words, item=item)
        elif name == "timeout":
            run.apply(run.outcome(task, TaskStatus.TIMED_OUT, item=item))
        else:
            outcome = run.outcome(task, item=item)
            machine.apply(run.state, outcome, run.now_us, run.chance, Effects())
            run.crash()

    @staticmethod
    def _control(run: Run, name: str, words: list[str]) -> None:
        if name == "signal":
            run.signal(words[0], words[1].encode())
            return
        task, item = _unit(words[0])
        if name == "begin":
            seconds = sum(float(word) for word in words[1:] if word[0].isdigit())
            named = "".join(word for word in words[1:] if not word[0].isdigit())
            run.wait(task, item=item, seconds=seconds, name=named)
        elif name == "decide":
            run.decide(task, approved=words[1] == "yes", item=item)
        else:
            run.child(task, int(words[1]), item=item)

    @staticmethod
    def _command(run: Run, name: str, words: list[str]) -> None:
        if name == "cancel":
            run.cancel(" ".join(words[1:]), words[0])
        elif name == "pause":
            run.pause(" ".join(words[1:]), words[0])
        elif name == "resume":
            run.unpause(words[0])
        elif name == "retry":
            run.retry(" ".join(words[1:]), words[0])
        elif name == "reset":
            run.reset(words[1], "", words[0])
        elif name == "wait":
            run.pass_time(float(words[0]))
        elif name == "crash":
            run.crash()
        elif name != "show":
            raise ValueError(f"unknown command: {name}")

    def _what_came(self, run: Run) -> list[str]:
        run.check_replay()
        effects = run.last
        told = {row.seq: self._result(run, row) for row in effects.results}
        for event in effects.events:
            told[event.seq] = self._event(run, event)
        lines = [told[seq] for seq in sorted(told)]
        lines += [f"ready {self._name(run, r)} try {r.try_}" for r in effects.ready]
        lines += [f"cancel {self._name(run, c)} try {c.try_}" for c in effects.cancels]
        lines += [
            f"child {wish.child}: {wish.verb} for {self._name(run, wish)} try {wish.try_}"
            for wish in effects.children
        ]
        for timer in effects.timers:
            if timer.kind != TimerKind.EXECUTION:
                wait_s = (timer.due_us - run.now_us) / SECOND_US
                lines.append(f"timer {TimerKind(timer.kind).name} in {wait_s:g} s")
        for finish in effects.finishes:
            error = "" if finish.error is None else f" {Failure.from_json(finish.error).reason}"
            output = "" if finish.output is None else f" {finish.output.decode()}"
            lines.append(f"finish {ExecutionStatus(finish.status).name}{output}{error}")
        states = " ".join(
            f"{task}={status}" + (f"[{' '.join(run.items(task))}]" if run.items(task) else "")
            for task, status in run.statuses().items()
        )
        return [*lines, f"{run.ended}: {states}"]

    @staticmethod
    def _name(run: Run, one: Named) -> str:
        name = run.plan.tasks[one.task].id
        return name if one.item == ITEM_NONE else f"{name}[{one.item}]"

    def _event(self, run: Run, event: EventRow) -> str:
        by = f" by {event.actor}" if event.actor else ""
        body = orjson.loads(event.body)
        said = body.get("reason") if "message" in body or event.kind == EventKind.PAUSED else ""
        about = f" {self._name(run, event)}" if event.task >= 0 and not said else ""
        text = f"row {event.seq} event {EventKind(event.kind).name}{about}{by}"
        return f"{text}: {said}" if said else text

    def _result(self, run: Run, row: ResultRow) -> str:
        text = (
            f"row {row.seq} {self._name(run, row)} try {row.try_} "
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
