"""If these fail, `--timeout 1h30m` means something else than in a workflow."""

import pytest

from bend.cli.durations import seconds
from bend_server.language.durations import parse_duration

GOOD = ["500ms", "5s", "1h30m", "7", "1.5m", "7d", "0", "1d2h3m4s5ms"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("500ms", 0.5), ("5s", 5), ("1h30m", 5400), ("7", 7), ("1.5m", 90), ("7d", 604_800)],
)
def test_durations(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", GOOD)
def test_a_duration_means_what_it_means_in_a_workflow(text: str) -> None:
    in_workflow = parse_duration(text)
    assert in_workflow is not None
    assert seconds(text) * 1_000_000 == pytest.approx(in_workflow)


@pytest.mark.parametrize("text", ["", "5 s", "s", "5x", "-1", "nan", "inf", "1e3", "400d"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"no duration|longer"):
        seconds(text)
