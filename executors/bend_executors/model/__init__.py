"""The `model` component: ONNX inference with batches across tasks."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bend_executors.configuration import Section
from bend_executors.model.component import ModelComponent as ModelComponent

__all__ = ["ModelComponent", "components"]


def components(environment: Mapping[str, str], _section: Section) -> list[Callable[..., Any]]:
    """Return what this folder serves."""
    home = Path(environment.get("BEND_HOME") or ".bend")
    models = Path(environment.get("BEND_MODEL_PATH", "") or home / "models")
    return [ModelComponent(models).infer]
