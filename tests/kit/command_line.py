"""The `bend` command in this process: arguments in, exit code and both outputs out."""

import io
import os
import sys
from typing import NamedTuple

import orjson
import pytest

from bend.cli.main import main


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, object]:
        """The one document on stdout."""
        value = orjson.loads(self.out)
        assert isinstance(value, dict)
        return value

    @property
    def lines(self) -> list[str]:
        """Stdout by line."""
        return self.out.splitlines()


class CommandLine:
    """Runs `bend` with the given environment; BEND_ variables of the outside are hidden."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str
    ) -> None:
        self._patch = monkeypatch
        self._capsys = capsys
        for name in list(os.environ):
            if name.startswith("BEND_"):
                monkeypatch.delenv(name)
        if url:
            monkeypatch.setenv("BEND_URL", url)

    def __call__(self, *arguments: str, stdin: str = "") -> Ended:
        self._patch.setattr(sys, "argv", ["bend", *arguments])
        self._patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        with pytest.raises(SystemExit) as ended:
            main()
        captured = self._capsys.readouterr()
        return Ended(int(ended.value.code or 0), captured.out, captured.err)
