"""Put a real model into the model folder: the classifier of irises that onnxruntime carries."""

import json
import os
from importlib.resources import files
from pathlib import Path

SPECIES = ["setosa", "versicolor", "virginica"]
POST = {
    "species": "output.label.map(at, labels[at])",
    "probabilities": "output.probabilities",
}


def main() -> None:
    """Write `models/iris/1.0.0` below BEND_HOME."""
    home = Path(os.environ.get("BEND_HOME", ".bend")) / "models" / "iris" / "1.0.0"
    home.mkdir(parents=True, exist_ok=True)
    model = files("onnxruntime") / "datasets" / "logreg_iris.onnx"
    (home / "model.onnx").write_bytes(model.read_bytes())
    config = {"labels": SPECIES, "post": POST}
    (home / "model.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    print(f"the model is in {home}")


if __name__ == "__main__":
    main()
