"""Each story must come out as it is written; `python -m tests.scenarios --rewrite` updates them."""

from pathlib import Path

import pytest

from tests.scenarios.story_file import rewritten

STORIES = sorted((Path(__file__).parent / "stories").glob("*.txt"))


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_story(path: Path) -> None:
    assert rewritten(path) == path.read_text(encoding="utf-8")


def test_there_are_stories() -> None:
    assert len(STORIES) >= 6
