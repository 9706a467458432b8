"""Tests wait for what they wait for: a fixed sleep is too long here and too short there.

`tests/kit` has what waits for a condition: `wait_until`, `eventually`.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.kit.streams import needs_machine
from tests.tidy.test_house_rules import ROOT, tracked

# Their seconds are virtual, or a benchmark's load.
ELSEWHERE = {"engine", "executor", "simulation", "benchmarks"}
ALLOWED = {
    "tests/integration/test_two_engines.py:busy": "the moment of a kill is a random one",
}


def is_component(function: ast.AST) -> bool:
    """Tell whether a function is a component, whose work may take time."""
    return isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) and any(
        ast.unparse(decorator).startswith("component(") for decorator in function.decorator_list
    )


def sleeps(node: ast.AST, function: str = "") -> Iterator[tuple[str, int]]:
    """Yield function and line of each sleep that is not the pause of a loop over a condition."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.While) or is_component(child):
            continue
        if isinstance(child, ast.Call) and ast.unparse(child.func) in {
            *("sleep", "time.sleep", "asyncio.sleep"),
        }:
            fixed = child.args[0] if child.args else None
            if not (isinstance(fixed, ast.Constant) and fixed.value == 0):
                yield function, child.lineno
        named = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
        yield from sleeps(child, child.name if named else function)


def found_in(path: Path) -> list[tuple[str, str]]:
    """Return file:function and file:line of each fixed sleep in a file."""
    name = path.relative_to(ROOT).as_posix()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [(f"{name}:{function}", f"{name}:{line}") for function, line in sleeps(tree)]


def test_no_test_sleeps_for_a_fixed_time() -> None:
    found = [
        place
        for path in tracked("tests/*.py")
        if path.relative_to(ROOT).parts[1] not in ELSEWHERE
        for place in found_in(path)
    ]
    unknown = [line for function, line in found if function not in ALLOWED]
    assert not unknown, f"a fixed sleep: {unknown}"
    assert {function for function, _ in found} == set(ALLOWED)


CLOCKS = ("monotonic()", "perf_counter()", "process_time()", "time.time()")


def judged_times(node: ast.AST) -> Iterator[int]:
    """Yield the line of each assertion that compares a time that went by."""
    for child in ast.walk(node):
        if not isinstance(child, ast.Assert) or not isinstance(child.test, ast.Compare):
            continue
        for side in (child.test.left, *child.test.comparators):
            went_by = isinstance(side, ast.BinOp) and isinstance(side.op, ast.Sub)
            if went_by and any(clock in ast.unparse(side) for clock in CLOCKS):
                yield child.lineno


def test_no_test_fails_for_how_long_something_took() -> None:
    found = [
        f"{path.relative_to(ROOT).as_posix()}:{line}"
        for path in tracked("tests/*.py")
        for line in judged_times(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not found, f"a figure of time decides: {found}"


def test_a_judged_time_is_found() -> None:
    code = "began = time.monotonic()\nassert time.monotonic() - began < 5\n"
    assert list(judged_times(ast.parse(code))) == [2]
    assert not list(judged_times(ast.parse("assert time.monotonic() < deadline")))


def test_what_starts_a_mesh_takes_the_machines_lock() -> None:
    """Beside tests that kill a gateway it could take the port that is free for a moment."""
    unmarked = [
        path.relative_to(ROOT).as_posix()
        for path in tracked("tests/**/test_*.py")
        if re.search(r"^from bend_server\.bench\.mesh ", path.read_text("utf-8"), re.MULTILINE)
        and not needs_machine(path)
    ]
    assert not unmarked


def test_a_fixed_sleep_is_found() -> None:
    code = "async def test_x():\n    if ready:\n        await asyncio.sleep(1)\n    time.sleep(0)\n"
    assert list(sleeps(ast.parse(code))) == [("test_x", 3)]
    polling = "def test_x():\n    while not ready():\n        time.sleep(0.1)\n"
    assert not list(sleeps(ast.parse(polling)))
