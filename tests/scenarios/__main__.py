"""Print what the stories give, or rewrite their files: `python -m tests.scenarios --rewrite`."""

import argparse
from pathlib import Path

from tests.scenarios.story_file import rewritten


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.scenarios")
    parser.add_argument("files", nargs="*", type=Path, help="default: all stories")
    parser.add_argument("--rewrite", action="store_true", help="write what happens into the file")
    arguments = parser.parse_args()
    here = Path(__file__).parent / "stories"
    for path in arguments.files or sorted(here.glob("*.txt")):
        text = rewritten(path)
        if arguments.rewrite:
            path.write_text(text, encoding="utf-8")
        else:
            print(text)


if __name__ == "__main__":
    main()
