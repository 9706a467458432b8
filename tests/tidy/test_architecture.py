"""docs/ARCHITECTURE.md names a test for each invariant; the names must be real."""

import re
from pathlib import Path

from bend_server.core import limits

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^\| (\d+) \| .* \|$", re.MULTILINE)
NAMED = re.compile(r"`(tests/[a-z_/0-9]+\.py)::(test_[a-z_0-9]+)`")


def test_every_invariant_names_tests_that_exist() -> None:
    text = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rows = {match[1]: match[0] for match in ROW.finditer(text)}
    assert sorted(rows, key=int) == [str(n) for n in range(1, 11)]
    for number, row in rows.items():
        named = NAMED.findall(row)
        assert named, f"invariant {number} names no test"
        for file, test in named:
            assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file}::{test}"


def test_invariant_7_every_limit_is_used() -> None:
    """A bound that nothing checks bounds nothing."""
    sources = "\n".join(
        path.read_text(encoding="utf-8")
        for folder in ("server", "executors", "sdk/python/bend")
        for path in (ROOT / folder).rglob("*.py")
        if path.name != "limits.py"
    )
    unused = [
        name for name in vars(limits) if name.isupper() and not re.search(rf"\b{name}\b", sources)
    ]
    assert not unused
