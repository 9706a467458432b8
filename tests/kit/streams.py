"""How processes share the suite: one runs what needs the machine, the others all the rest."""

import re
from functools import cache
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

MACHINE = "machine"
_MARKED = re.compile(r"\bpytest\.mark\.(kill|heavy)\b")


@cache
def needs_machine(file: Path) -> bool:
    """Tell whether a file has tests that take the machine's lock.

    It is read from the text: who hands out the tests knows their names and not their marks.
    """
    return bool(_MARKED.search(file.read_text(encoding="utf-8")))


class Streams(LoadScopeScheduling):
    """Hands out tests in their order, one by one, but all that need the machine as one piece.

    The lock lets one of these run at a time anyhow, and meshes that tests share are started once.
    xdist's own `loadgroup` reads marks from the names of tests, which pytest 9.2 made unchangeable:
    https://github.com/pytest-dev/pytest-xdist/issues/1386.
    """

    def __init__(self, config: pytest.Config, log: Producer) -> None:
        super().__init__(config, log)
        self._root = config.rootpath
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        """Return the name of the piece that a test belongs to."""
        return MACHINE if needs_machine(self._root / nodeid.partition("::")[0]) else nodeid
