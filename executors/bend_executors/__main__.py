"""`python -m bend_executors`: serve the built-in components until SIGTERM."""

import logging
import os
from pathlib import Path

from bend import Worker
from bend_executors.http import HttpComponent
from bend_executors.model import ModelComponent


def main() -> None:
    """Connect with the settings of the environment and serve."""
    # Its line a request costs time, and a URL may hold what nobody should read in a log.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    home = Path(os.environ.get("BEND_HOME", ".bend"))
    models = Path(os.environ.get("BEND_MODEL_PATH", "") or home / "models")
    http = HttpComponent(os.environ.get("BEND_HTTP_ALLOW", ""))
    model = ModelComponent(models)
    Worker([http.request, model.infer], credit=512).run()


if __name__ == "__main__":
    main()
