"""The `model` component: ONNX inference with batches across tasks."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bend_executors.configuration import Section
from bend_executors.model.component import ModelComponent as ModelComponent
from bend_executors.model.settings import Registry as Registry
from bend_executors.model.settings import Settings as Settings
from bend_executors.model.settings import Source as Source
from bend_executors.model.settings import read

__all__ = ["ModelComponent", "Registry", "Settings", "Source", "components"]


def components(environment: Mapping[str, str], section: Section) -> list[Callable[..., Any]]:
    """Return what this folder serves."""
    home = Path(environment.get("BEND_HOME") or ".bend")
    models = Path(environment.get("BEND_MODEL_PATH", "") or home / "models")
    return [ModelComponent(read(section, models)).infer]
