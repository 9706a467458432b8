"""Make `$BEND_HOME/shop.db` with some orders, and allow it in `$BEND_HOME/components.yaml`."""

import os
import shutil
import sqlite3
from pathlib import Path

HERE = Path(__file__).resolve().parent
SCHEMA = """
DROP TABLE IF EXISTS orders;
DROP TABLE IF EXISTS notes;
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT, total REAL, status TEXT);
INSERT INTO orders (customer, total, status) VALUES
    ('Ada', 19.90, 'new'), ('Bo', 240, 'paid'), ('Cy', 75.50, 'paid'), ('Ada', 310, 'new');
CREATE TABLE notes (key TEXT PRIMARY KEY, text TEXT NOT NULL);
"""


def main() -> None:
    """Make both files; a `components.yaml` that is there stays as it is."""
    home = Path(os.environ.get("BEND_HOME", ".bend"))
    home.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(home / "shop.db")
    connection.executescript(SCHEMA)
    connection.close()
    print(f"made {home / 'shop.db'}")
    settings = home / "components.yaml"
    if settings.exists():
        print(f"{settings} is there: add the section of {HERE / 'components.yaml'} to it")
    else:
        shutil.copy(HERE / "components.yaml", settings)
        print(f"made {settings}")


if __name__ == "__main__":
    main()
