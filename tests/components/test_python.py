"""The python component: what scripts and functions get, give, say and raise."""

import asyncio
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from bend import RetryableError, TerminalError
from bend.errors import ConfigurationError
from bend_executors import configuration
from bend_executors.python import PythonComponent, service
from tests.components.calls import Call, call, documented
from tests.components.sandboxes import LIMITS, best, failure, python_component, run, running
from tests.kit.waiting import wait_until

MODULES = {
    "greetings/__init__.py": "from greetings.words import WORD",
    "greetings/words.py": "WORD = 'hello'",
    "jobs.py": """
import greetings

def greet(name, context, *, mark='!'):
    print('greeting')
    return f'{greetings.WORD} {name}{mark} ({context.attempt})'

def broken():
    return {}['missing']
""",
}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PythonComponent]:
    folder = tmp_path_factory.mktemp("home") / "modules"
    for name, text in MODULES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    # As `bend up` makes it: nobody but its owner looks in.
    folder.parent.chmod(0o700)
    with python_component(best(), folder=folder) as made:
        yield made


def test_the_documented_tasks_run(python: PythonComponent) -> None:
    tasks = {task["id"]: task for task in documented("python")}
    made = {name: run_task(python, task) for name, task in tasks.items()}
    assert made["total"].output == {"total": 24}
    assert ("info", "adding 3 values") in made["total"].logs
    assert made["steps"].output == {"steps": 3}
    assert made["steps"].partials == [{"step": n} for n in range(3)]
    assert [text for _, text in made["steps"].logs[1:]] == [f"step {n}" for n in range(3)]
    assert made["plain"].output == "Some Text"
    tasks["steps"]["input"] = 101
    error = failure(lambda: run_task(python, tasks["steps"]))
    assert (error.reason, error.retryable, error.message) == ("TOO_MANY", False, "101 steps")


def run_task(python: PythonComponent, task: dict[str, Any]) -> Call:
    values = {key: value for key, value in task.items() if key not in ("id", "type")}
    return asyncio.run(call(python.run, values))


def test_a_function_of_the_operators_modules_runs(python: PythonComponent) -> None:
    values = {"function": "jobs:greet", "input": "Ada", "arguments": {"mark": "?"}}
    made = asyncio.run(call(python.run, values, attempt=3))
    assert made.output == "hello Ada? (3)"
    assert ("info", "greeting") in made.logs
    assert run(python, "import greetings\noutput = greetings.WORD").output == "hello"


def test_a_changed_module_is_seen_and_links_are_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.py"
    secret.write_text("VALUE = 1", encoding="utf-8")
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "linked.py").symlink_to(secret)
    (folder / "m.py").write_text("def f(): return 1", encoding="utf-8")
    with python_component(best(), folder=folder) as made:
        task = {"function": "m:f"}
        assert asyncio.run(call(made.run, task)).output == 1
        (folder / "m.py").write_text("def f(): return 22", encoding="utf-8")
        assert asyncio.run(call(made.run, task)).output == 22
        error = failure(lambda: run(made, "import linked"))
        assert (error.reason, error.retryable) == ("MODULE_NOT_FOUND", False)


def test_the_example_runs() -> None:
    folder = Path(__file__).resolve().parents[2] / "examples" / "python"
    example = yaml.safe_load((folder / "workflow.yaml").read_text(encoding="utf-8"))
    figures, text = example["tasks"]
    with python_component(best(), folder=folder / "modules") as made:
        found = run_task(made, figures | {"input": [3, 4, 8]})
        told = run_task(made, text | {"input": found.output})
    assert found.partials == [{"seen": n} for n in (1, 2, 3)]
    assert told.output == "The mean is 5.0, give or take 2.65."


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({}, "exactly one"),
        ({"script": "x", "function": "a:b"}, "exactly one"),
        ({"function": "os.system"}, "module:name"),
        ({"function": "jobs:greet;x"}, "module:name"),
        ({"function": "../jobs:greet"}, "module:name"),
        ({"script": "#" * 300_000}, "at most"),
    ],
)
def test_wrong_inputs_are_refused(
    python: PythonComponent, values: dict[str, Any], text: str
) -> None:
    error = failure(lambda: asyncio.run(call(python.run, values)))
    assert error.reason == "INVALID_INPUT"
    assert text in error.message


@pytest.mark.parametrize(
    ("script", "output", "partials"),
    [
        ("def main(): yield 1; yield 2", 2, [1, 2]),
        ("def main():\n yield 1\n return {'a': 9}", {"a": 9}, [1]),
        ("from bend import Final\ndef main():\n yield 1\n yield Final(5)\n yield 2", 5, [1]),
        ("async def main(): return 7", 7, []),
        ("async def main():\n yield 1\n yield 2", 2, [1, 2]),
        ("def main(): return {1, 2} - {2}", [1], []),
        ("x = 1", None, []),
        ("output = 2 ** 80", 2**80, []),
        ("output = [10 ** 308, '7' * 400]", [10**308, "7" * 400], []),
        ("output = 'é\\ud800'", "é?", []),
    ],
)
def test_what_a_script_gives(
    python: PythonComponent, script: str, output: Any, partials: list[Any]
) -> None:
    made = run(python, script)
    assert (made.output, made.partials) == (output, partials)


@pytest.mark.parametrize(
    ("script", "reason", "kind"),
    [
        ("1/0", "ZERO_DIVISION_ERROR", RetryableError),
        ("class HTTPBad(Exception): pass\nraise HTTPBad", "HTTP_BAD", RetryableError),
        ("raise SystemExit(3)", "SYSTEM_EXIT", RetryableError),
        ("from bend import RetryableError\nraise RetryableError('BUSY', retry_after=4)", "BUSY",
         RetryableError),
        ("from bend import TerminalError\nraise TerminalError('NO', details={'a': 1})", "NO",
         TerminalError),
        ("def main(:", "INVALID_SCRIPT", TerminalError),
        ("import nowhere", "MODULE_NOT_FOUND", TerminalError),
        ("output = object()", "INVALID_OUTPUT", TerminalError),
        ("output = float('nan')", "INVALID_OUTPUT", TerminalError),
        ("output = x = []\nfor _ in range(5000): x.append([]); x = x[0]", "INVALID_OUTPUT",
         TerminalError),
        ("output = 'x' * (17 << 20)", "INVALID_OUTPUT", TerminalError),
        ("output = [10 ** 308, -(10 ** 309)]", "INVALID_OUTPUT", TerminalError),
        ("def main():\n yield float('inf')", "INVALID_OUTPUT", TerminalError),
        ("class Odd:\n def __fspath__(self): return {}['x']\noutput = Odd()", "INVALID_OUTPUT",
         TerminalError),
        ("class Mute(Exception):\n def __str__(self): return {}['x']\nraise Mute", "MUTE",
         RetryableError),
        ("from bend import RetryableError\nraise RetryableError('GONE', details=float('nan'))",
         "GONE", RetryableError),
        ("from bend import RetryableError\nx = []\nx.append(x)\n"
         "raise RetryableError('ROUND', details=x)", "ROUND", RetryableError),
        ("def main(a): pass", "TYPE_ERROR", RetryableError),
    ],
)  # fmt: skip
def test_what_a_failure_means(
    python: PythonComponent, script: str, reason: str, kind: type[Exception]
) -> None:
    error = failure(lambda: run(python, script))
    assert error.reason == reason, error.message
    assert isinstance(error, kind)
    if reason == "BUSY":
        assert error.retry_after_s == 4
    if reason == "NO":
        assert error.details["script"] == {"a": 1}


def test_a_traceback_shows_the_script_and_no_place_of_the_machine(
    python: PythonComponent, tmp_path: Path
) -> None:
    script = "import json\ndef main():\n    return json.loads('{')"
    trace = failure(lambda: run(python, script)).details["traceback"]
    assert '"<script>", line 3, in main' in trace
    assert "return json.loads('{')" in trace
    assert "<python>/json/decoder.py" in trace
    error = failure(lambda: asyncio.run(call(python.run, {"function": "jobs:broken"})))
    assert error.reason == "KEY_ERROR"
    assert "<modules>/jobs.py" in error.details["traceback"]
    for text in (trace, error.details["traceback"]):
        assert sys.base_prefix not in text
        assert str(tmp_path.parent) not in text


def test_logs_are_bounded_and_what_is_dropped_is_counted(python: PythonComponent) -> None:
    made = run(python, "for n in range(5000): print(n)\nprint('x' * 100_000, end='')")
    assert 500 <= len(made.logs) <= 900
    assert "log lines were dropped" in made.logs[-1][1]
    long = run(
        python, "print('x' * 300_000)\nprint('next')\nimport sys\nprint('!', file=sys.stderr)"
    )
    shown = [(level, text[:4], len(text)) for level, text in long.logs[1:]]
    assert sorted(shown) == [("info", "next", 4), ("info", "xxxx", 8192), ("warning", "!", 1)]
    flood = "while True: print('x' * 10_000)"
    error = failure(lambda: run(python, flood, timeout_s=0.7))
    assert error.reason in ("CPU_LIMIT", "TIMEOUT")


@pytest.mark.parametrize(
    "script",
    [
        "def main(context):\n    while True: context.log('x')",
        "def main(context):\n    while True: yield 1",
        "while True: print('x' * 10_000)",
    ],
)
def test_a_flood_leaves_the_loop_to_others(python: PythonComponent, script: str) -> None:
    async def longest_turn_s() -> float:
        """Return the most that our own thread worked between two turns of the loop.

        Its own time: when the machine is busy with others, nobody here holds the loop.
        """
        task = asyncio.ensure_future(call(python.run, {"script": script}, timeout_s=0.7))
        longest = 0.0
        while not task.done():
            began = time.thread_time()
            await asyncio.wait({task}, timeout=0.01)
            longest = max(longest, time.thread_time() - began)
        assert task.exception() is not None
        return longest

    assert asyncio.run(longest_turn_s()) < 0.4


def test_the_context_is_the_tasks(python: PythonComponent) -> None:
    script = "def main(context):\n    context.log('low', 'debug')\n"
    script += "    return {**vars(context)} | {'_channel': 0}"
    about = {"namespace": "n", "attempt": 2, "item": 4, "iteration": 1, "execution_id": "e"}
    made = asyncio.run(call(python.run, {"script": script}, timeout_s=9.0, **about))
    wanted = about | {"task": "t", "timeout_s": 9.0, "_channel": 0, "idempotency_key": "n/e/t/4/1"}
    assert made.output == wanted
    assert ("debug", "low") in made.logs


class Heard(Call):
    """A sink that waits for one log line."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text
        self.heard = asyncio.Event()

    def log(self, level: str, message: str) -> None:
        """Take a log line."""
        super().log(level, message)
        if message == self._text:
            self.heard.set()


def test_a_cancelled_task_is_killed(python: PythonComponent) -> None:
    async def cancelled(marker: str) -> None:
        sink = Heard("up")
        script = f"import subprocess\nsubprocess.Popen(['/bin/sleep', '{marker}'])\n"
        script += "print('up', flush=True)\nwhile True: pass"
        task = asyncio.ensure_future(call(python.run, {"script": script}, sink=sink))
        async with asyncio.timeout(60):
            await sink.heard.wait()
        await asyncio.to_thread(wait_until, lambda: bool(running(marker)), "it does not start", 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    marker = f"3600.{uuid4().int % 10**9}"
    asyncio.run(cancelled(marker))
    wait_until(lambda: not running(marker), "a cancelled task's child lives", 30)


def test_the_operator_opens_folders_and_the_network(tmp_path: Path) -> None:
    read, write = tmp_path / "r", tmp_path / "w"
    for folder in (read, write):
        folder.mkdir()
        folder.chmod(0o777)
    (read / "packed.py").write_text("VALUE = 5", encoding="utf-8")
    (read / "packed.py").chmod(0o644)
    rules = {"read": (str(read),), "write": (str(write),), "packages": (str(read),)}
    script = f"""
import socket, packed
open('{write}/made', 'w').write('by the task')
try:
    open('{read}/made', 'w')
except OSError as error:
    output = [error.errno, packed.VALUE, len(socket.if_nameindex())]
"""
    with python_component(best(), **rules, network=True, preload=("decimal",)) as made:
        errno, value, interfaces = run(made, script).output
    assert (errno, value) == (30, 5)
    assert interfaces == len(socket.if_nameindex())
    assert (write / "made").read_text(encoding="utf-8") == "by the task"


def section(folder: Path, text: str) -> configuration.Section:
    (folder / "components.yaml").write_text(yaml.safe_dump({"python": yaml.safe_load(text)}))
    return configuration.load({"BEND_HOME": str(folder)}).section("python")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{isolation: maybe}", "isolation"),
        ("{limits: {cpu_s: 0}}", "limits.cpu_s: 1 to"),
        ("{limits: {memory: 3}}", "unknown key 'memory'"),
        ("{read: [/]}", "never shown"),
        ("{read: [/etc/../proc]}", "never shown"),
        ("{write: [relative]}", "no absolute place"),
        ("{packages: [/nowhere/at/all]}", "no absolute place"),
        ("{preload: [3]}", "a list of texts"),
        ("{path: /nowhere/at/all}", "there is no folder"),
        ("{concurrent: 0}", "concurrent 1 to"),
    ],
)
def test_mistakes_of_the_operator_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        service({"BEND_HOME": str(tmp_path)}, section(tmp_path, text))


def test_the_limits_of_the_file_are_the_sandboxes(tmp_path: Path) -> None:
    made = service(
        {"BEND_HOME": str(tmp_path)},
        section(
            tmp_path, "{warm: 0, limits: {memory_mb: 200, processes: 3, cpu_s: 7, file_mb: 2}}"
        ),
    )
    script = "import resource as r\nnames = 'AS', 'NPROC', 'CPU', 'FSIZE'\n"
    script += "output = [r.getrlimit(getattr(r, f'RLIMIT_{name}'))[0] for name in names]"
    found = asyncio.run(call(made.functions[0], {"script": script})).output
    assert found == [200 << 20, 3, 7, 2 << 20]
    assert LIMITS.cpu_s == 1
