"""The shell component: the operator's list, arguments that try to get past it, and programs."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from bend import RetryableError, TerminalError
from bend.errors import ComponentError, ConfigurationError
from bend_executors import configuration
from bend_executors.shell import ShellComponent, service
from bend_executors.shell.commands import NO_MISFIT, misfit, read_shape
from tests.components.calls import Call, call, documented
from tests.components.sandboxes import best, running
from tests.kit.documents import blocks
from tests.kit.waiting import wait_until

README = Path(__file__).resolve().parents[2] / "executors/bend_executors/shell/README.md"
COMMANDS = """
  echo: {program: /bin/echo, arguments: [{pattern: "[^/]*", most: 8, least: 0}]}
  show: {program: /bin/cat, shapes: [[], [{pattern: "[a-z/]+"}]]}
  script:
    program: /bin/sh
    arguments: ["-c", {pattern: ".*", dash: true}]
    retryable: [75]
    environment: {FIXED: "$HOME"}
  lines: {program: /usr/bin/seq, arguments: [{pattern: "[0-9]+"}], stream: partials}
  told: {program: /bin/sh, arguments: ["-c", {pattern: ".*"}], stream: logs}
  list: {program: /bin/ls, arguments: ["-a", {pattern: "/scratch"}]}
"""


def section(folder: Path, text: str) -> configuration.Section:
    (folder / "components.yaml").write_text(f"shell:\n{text}", encoding="utf-8")
    return configuration.load({"BEND_HOME": str(folder)}).section("shell")


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("home")
    limits = "{cpu_s: 1, memory_mb: 128, file_mb: 4, scratch_mb: 8, open_files: 64, processes: 12}"
    head = f"  enabled: true\n  isolation: {best()}\n  limits: {limits}\n  commands:"
    text = head + COMMANDS.replace("\n", "\n  ")
    (run,) = service({}, section(folder, text)).functions
    component: ShellComponent = run.__self__  # type: ignore[attr-defined]
    component.overtime_s = 0.0
    yield run
    component.pool.close()


def run(shell: Any, command: str, *arguments: str, timeout_s: float = 20.0, **more: Any) -> Call:
    values = {"command": command, "arguments": list(arguments)} | more
    return asyncio.run(call(shell, values, timeout_s=timeout_s))


def failure(shell: Any, command: str, *arguments: str, **more: Any) -> ComponentError:
    with pytest.raises(ComponentError) as caught:
        run(shell, command, *arguments, **more)
    return caught.value


def test_it_is_off_until_it_is_enabled(tmp_path: Path) -> None:
    unlisted = section(tmp_path, "  commands: {e: {program: /bin/echo}}\n")
    assert service({}, configuration.load({}).section("shell")).functions == []
    assert service({}, unlisted).functions == []


def test_the_documented_tasks_run_with_the_documented_configuration(tmp_path: Path) -> None:
    (text,) = [b.text for b in blocks(README) if b.language == "text"]
    (made,) = service({}, section(tmp_path, text.partition("\n")[2])).functions
    outputs = {}
    for task in documented("shell"):
        values = {key: value for key, value in task.items() if key not in ("id", "type")}
        outputs[task["id"]] = asyncio.run(call(made, values)).output
    made.__self__.pool.close()  # type: ignore[attr-defined]
    assert outputs["sorted"]["stdout"] == "c\nb\na\n"
    assert outputs["counted"]["stdout"].split()[0] == "2"
    assert outputs["sorted"] | {"stdout": ""} == {
        "exit_code": 0,
        "stdout": "",
        "stderr": "",
        "truncated": False,
    }


@pytest.mark.parametrize(
    "argument",
    [
        "; id",
        "$(id)",
        "`id`",
        "a && id",
        "| id",
        "> x",
        "$HOME",
        "*",
        "~",
        "a\nid",
        "'\"",
        "\\",
        "é",
    ],
)
def test_no_shell_reads_an_argument(shell: Any, argument: str) -> None:
    assert run(shell, "echo", argument).output["stdout"] == f"{argument}\n"
    assert run(shell, "echo", argument, "b").output["stdout"] == f"{argument} b\n"


@pytest.mark.parametrize(
    ("command", "arguments", "reason"),
    [
        ("nothing", [], "COMMAND_UNKNOWN"),
        ("/bin/ls", [], "COMMAND_UNKNOWN"),
        ("../echo", [], "COMMAND_UNKNOWN"),
        ("echo", ["-n"], "ARGUMENTS_REFUSED"),
        ("echo", ["--help"], "ARGUMENTS_REFUSED"),
        ("echo", ["a", "-e"], "ARGUMENTS_REFUSED"),
        ("echo", ["-"], "ARGUMENTS_REFUSED"),
        ("echo", ["a\0b"], "ARGUMENTS_REFUSED"),
        ("echo", ["a"] * 9, "ARGUMENTS_REFUSED"),
        ("echo", ["a"] * 65, "ARGUMENTS_REFUSED"),
        ("echo", ["a" * 4097], "ARGUMENTS_REFUSED"),
        ("echo", ["a/b"], "ARGUMENTS_REFUSED"),
        ("show", ["/etc/hosts\n"], "ARGUMENTS_REFUSED"),
        ("show", ["/etc/hosts;id"], "ARGUMENTS_REFUSED"),
        ("show", ["a", "b"], "ARGUMENTS_REFUSED"),
        ("show", [""], "ARGUMENTS_REFUSED"),
        ("list", [], "ARGUMENTS_REFUSED"),
        ("list", ["-a"], "ARGUMENTS_REFUSED"),
        ("list", ["/scratch"], "ARGUMENTS_REFUSED"),
        ("list", ["-la", "/scratch"], "ARGUMENTS_REFUSED"),
        ("list", ["-a", "/scratch/"], "ARGUMENTS_REFUSED"),
        ("list", ["-a", "/scratch", "/etc"], "ARGUMENTS_REFUSED"),
        ("told", ["-c", "-x"], "ARGUMENTS_REFUSED"),
    ],
)
def test_what_the_list_does_not_allow_is_refused(
    shell: Any, command: str, arguments: list[str], reason: str
) -> None:
    error = failure(shell, command, *arguments)
    assert (error.reason, error.retryable) == (reason, False)


@pytest.mark.parametrize(
    "values",
    [{"command": "echo", "arguments": "a b"}, {"command": "echo", "arguments": [1]},
     {"arguments": []}, {"command": "echo", "shell": True},
     {"command": "echo", "stdin": "x" * (1 << 21)}],
)  # fmt: skip
def test_wrong_inputs_are_refused(shell: Any, values: dict[str, Any]) -> None:
    with pytest.raises(TerminalError) as caught:
        asyncio.run(call(shell, values))
    assert caught.value.reason == "INVALID_INPUT"


def test_a_refusal_names_the_place_of_the_argument(shell: Any) -> None:
    error = failure(shell, "list", "-a", "/etc")
    assert error.details == {"argument": 2}
    assert "argument 2" in error.message


def test_a_program_has_its_input_and_a_clean_surrounding(shell: Any) -> None:
    assert run(shell, "show", stdin="é\n").output["stdout"] == "é\n"
    assert run(shell, "list", "-a", "/scratch").output["stdout"].split() == [".", ".."]
    text = run(shell, "script", "-c", "env; pwd; ls -a; touch /scratch/kept").output["stdout"]
    lines = set(text.split("\n")) - {""}
    names = {line.partition("=")[0] for line in lines if "=" in line} - {"PWD", "OLDPWD", "_"}
    assert names == {"PATH", "LANG", "HOME", "TMPDIR", "FIXED", "SHLVL"} & names
    assert {"PATH", "HOME", "FIXED"} <= names
    assert "FIXED=$HOME" in lines
    assert "/scratch" in lines
    assert run(shell, "list", "-a", "/scratch").output["stdout"].split() == [".", ".."]


@pytest.mark.parametrize(
    ("script", "reason", "kind"),
    [
        ("echo out; echo err >&2; exit 3", "EXIT_3", TerminalError),
        ("exit 75", "EXIT_75", RetryableError),
        ("kill -9 $$", "EXIT_137", TerminalError),
        ("cat /etc/shadow", "EXIT_1", TerminalError),
        ("echo x > /usr/x", "EXIT_2", TerminalError),
        ("while :; do :; done", "CPU_LIMIT", TerminalError),
        ("head -c 20000000 /dev/zero > /scratch/x", "EXIT_153", TerminalError),
        ("ulimit -u 4096", "EXIT_2", TerminalError),
    ],
)
def test_what_an_exit_code_means(
    shell: Any, script: str, reason: str, kind: type[ComponentError]
) -> None:
    error = failure(shell, "script", "-c", script)
    assert error.reason == reason, error.details
    assert isinstance(error, kind)
    assert error.details["isolation"] == best()
    if reason == "EXIT_3":
        assert (error.details["stdout"], error.details["stderr"]) == ("out\n", "err\n")


def test_a_command_is_killed_with_all_its_children(shell: Any) -> None:
    marker = f"3600.{uuid4().int % 10**9}"
    script = f"(setsid sleep {marker} &) ; sleep {marker} & sleep {marker}"
    error = failure(shell, "script", "-c", script, timeout_s=0.5)
    assert (error.reason, error.retryable) == ("TIMEOUT", True)
    wait_until(lambda: not running(marker), "a child lives", 30)

    async def cancelled() -> None:
        values = {"command": "script", "arguments": ["-c", script]}
        task = asyncio.ensure_future(call(shell, values))
        await asyncio.to_thread(wait_until, lambda: bool(running(marker)), "it does not start", 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    wait_until(lambda: not running(marker), "a child lives", 30)
    ended = run(shell, "script", "-c", f"(setsid sleep {marker} > /dev/null 2>&1 &)")
    assert ended.output["exit_code"] == 0
    wait_until(lambda: not running(marker), "a child outlives its program", 30)


def test_a_fork_bomb_is_bounded(shell: Any) -> None:
    # Twenty at most, by the script itself.
    script = "i=0; while [ $i -lt 20 ]; do sleep 9 & i=$((i+1)); done; echo all"
    error = failure(shell, "script", "-c", script)
    assert "fork" in error.details["stderr"].lower()


def test_outputs_are_bounded(shell: Any) -> None:
    made = run(shell, "script", "-c", "head -c 3000000 /dev/zero | tr '\\0' x; printf '\\377'")
    assert len(made.output["stdout"]) == 1 << 20
    assert made.output["truncated"] is True
    assert run(shell, "script", "-c", "printf '\\377'").output["stdout"] == "\ufffd"


def test_lines_are_partial_outputs_or_logs_where_the_list_says_so(shell: Any) -> None:
    made = run(shell, "lines", "300")
    assert made.partials == [str(n) for n in range(1, 301)]
    assert made.output["stdout"].count("\n") == 300
    told = run(shell, "told", "-c", "echo a; echo b >&2; printf c")
    assert sorted(told.logs[1:]) == [("info", "a"), ("info", "c"), ("warning", "b")]
    assert told.partials == []


def test_a_program_outside_of_the_system_is_shown_alone(tmp_path: Path) -> None:
    program, other = tmp_path / "bin" / "own", tmp_path / "bin" / "other"
    program.parent.mkdir()
    for path in (program, other):
        path.write_text(f"#!/bin/sh\nls {program.parent}\n", encoding="utf-8")
        path.chmod(0o755)
    text = f"  enabled: true\n  isolation: {best()}\n  commands: {{own: {{program: {program}}}}}"
    (made,) = service({}, section(tmp_path, text)).functions
    assert run(made, "own").output["stdout"] == "own\n"
    made.__self__.pool.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("  enabled: true", "has no commands"),
        ("  commands: {a: {program: ls}}", "absolute program"),
        ("  commands: {a: {program: /nowhere/ls}}", "absolute program"),
        ("  commands: {a: {arguments: []}}", "'program' is missing"),
        ("  commands: {a: {program: /bin/ls, arguments: [3]}}", "a text or"),
        ("  commands: {a: {program: /bin/ls, arguments: [{pattern: '('}]}}", "no pattern"),
        ("  commands: {a: {program: /bin/ls, arguments: [{dash: true}]}}", "no pattern"),
        ("  commands: {a: {program: /bin/ls, arguments: [{pattern: a, most: 0}]}}", "least, most"),
        (
            "  commands: {a: {program: /bin/ls, arguments: [{pattern: a, dash: 1}]}}",
            "dash is wrong",
        ),
        ("  commands: {a: {program: /bin/ls, arguments: [{pattern: a, least: 0}, b]}}", "only the"),
        ("  commands: {a: {program: /bin/ls, shapes: [a]}}", "a shape is a list"),
        ("  commands: {a: {program: /bin/ls, retryable: [0]}}", "codes of 1 to 255"),
        ("  commands: {a: {program: /bin/ls, stream: all}}", "one of none"),
        ("  commands: {a: {program: /bin/ls, shell: true}}", "unknown key 'shell'"),
        ("  commands: {a: {program: /bin/ls, environment: {A: 1}}}", "a map of texts"),
    ],
)
def test_mistakes_of_the_operator_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        service({}, section(tmp_path, text))


def test_a_shape_takes_as_many_as_it_says() -> None:
    shape = read_shape(["x", {"pattern": "[ab]", "least": 1, "most": 2}], "here")
    assert misfit(shape, ["x", "a"]) == NO_MISFIT
    assert misfit(shape, ["x", "a", "b"]) == NO_MISFIT
    assert misfit(shape, ["x", "a", "b", "a"]) == 3
    assert misfit(shape, ["x"]) == 1
    assert misfit(shape, ["y", "a"]) == 0
    assert misfit((), []) == NO_MISFIT
