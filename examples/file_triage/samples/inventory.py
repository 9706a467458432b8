"""Count what is on the shelf."""

from collections import Counter
from pathlib import Path


def count(folder: Path) -> Counter[str]:
    """Return how many files of each suffix a folder has."""
    return Counter(path.suffix for path in folder.rglob("*") if path.is_file())


def main() -> None:
    """Print the counts of the current folder."""
    for suffix, number in sorted(count(Path()).items()):
        print(f"{suffix or 'none':10} {number}")


if __name__ == "__main__":
    main()
