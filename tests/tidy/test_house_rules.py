"""House rules as tests: what CONTRIBUTING.md says about the shape of the code is held here."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BANNED_NAMES = {"utils", "helpers", "common", "misc", "base", "manager", "util", "helper"}
LINES_MAX = 500
FUNCTION_LINES_MAX = 60


def tracked(*patterns: str) -> list[Path]:
    """Return the files of the checkout that git tracks or would track."""
    # The checkout may belong to another user than the one who tests it.
    git = ("git", "-c", "safe.directory=*")
    listed = subprocess.run(
        [*git, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\0")
    return [ROOT / name for name in listed if name and (ROOT / name).is_file()]


def written_python() -> list[Path]:
    """Return the Python files that people wrote."""
    return [
        path
        for path in tracked("*.py")
        if not re.search(r"_pb2(_grpc)?\.py$", path.name)
        and "sdk/python/buf" not in str(path)
        and "Generated from protos/" not in path.read_text(encoding="utf-8")[:80]
    ]


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the name and the length in lines of each function, docstring left out."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            doc = 0
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                doc = (first.end_lineno or 0) - first.lineno + 1
            yield node.name, (node.end_lineno or 0) - node.lineno + 1 - doc


def test_files_are_at_most_500_lines() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for path in written_python()
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > LINES_MAX
    }
    assert not long


def test_functions_are_at_most_60_lines() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{name} has {lines}"
        for path in written_python()
        for name, lines in functions(path)
        if lines > FUNCTION_LINES_MAX
    ]
    assert not long


def test_modules_are_named_by_their_content() -> None:
    vague = [str(p.relative_to(ROOT)) for p in written_python() if p.stem in BANNED_NAMES]
    assert not vague


def test_nothing_is_left_to_do() -> None:
    """A mark of work to come, without an issue, is a promise to nobody."""
    # Written so that this file does not hold the marks itself and is checked like all others.
    mark = re.compile(r"\b(TO[D]O|FIX[M]E|XX[X])\b")
    left = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in written_python()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if mark.search(line)
    ]
    assert not left


def test_no_machine_and_no_index_is_named() -> None:
    """A path of one machine or a registry's address would break every other machine."""
    bad = re.compile(r"/[w]ork/|/[r]oot/|index[-_][u]rl|/[s]imple/[a-z]")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked()
        if path.suffix not in {".binpb", ".onnx", ".png"}
        for number, line in enumerate(
            path.read_text(encoding="utf-8", errors="replace").splitlines(), 1
        )
        if bad.search(line)
    ]
    assert not found


def test_every_public_module_says_what_it_is() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in written_python()
        if "tests" not in path.parts
        and path.read_text(encoding="utf-8").strip()
        and not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not silent
