"""`bend validate`: lines for people, JSON for programs, exit codes for scripts."""

from pathlib import Path

import orjson
from click.testing import CliRunner

from bend_server.cli import commands
from bend_server.cli.validate import validate

GOOD = "name: w\ntasks:\n  - {id: a, type: http}\n"
BAD = "name: w\ntasks:\n  - {id: a, type: http, depends_on: [b]}\n"


def test_it_is_one_of_the_commands() -> None:
    assert "validate" in [command.name for command in commands()]


def test_a_finding_is_one_line_with_its_place(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(GOOD)
    bad.write_text(BAD)
    result = CliRunner().invoke(validate, [str(good), str(bad)])
    assert result.exit_code == 3
    assert result.stdout == f"{bad}:3:38: UNKNOWN_TASK: no task 'b'\n"


def test_a_valid_file_is_quiet_and_exits_0(tmp_path: Path) -> None:
    good = tmp_path / "good.yaml"
    good.write_text(GOOD)
    result = CliRunner().invoke(validate, [str(good)])
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "1 valid\n")


def test_json_is_one_document(tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text('{"name": "w",\n "tasks": [{"id": "a"}]}')
    result = CliRunner().invoke(validate, ["--json", str(bad)])
    assert result.exit_code == 3
    assert orjson.loads(result.stdout) == {
        "valid": False,
        "findings": [
            {
                "file": str(bad),
                "reason": "MISSING_KEY",
                "message": "a task needs 'type'",
                "path": "tasks[0]",
                "line": 2,
                "column": 12,
            }
        ],
    }


def test_standard_input_is_a_dash() -> None:
    result = CliRunner().invoke(validate, ["-"], input=BAD)
    assert result.exit_code == 3
    assert result.stdout == "-:3:38: UNKNOWN_TASK: no task 'b'\n"


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(validate, [str(tmp_path / "none.yaml")])
    assert result.exit_code == 2
    assert "No such file" in result.stderr
