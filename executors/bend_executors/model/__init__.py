"""The `model` component: ONNX inference with batches across tasks."""

from collections.abc import Mapping
from pathlib import Path

from bend_executors.configuration import Section
from bend_executors.model.component import ModelComponent as ModelComponent
from bend_executors.model.settings import Registry as Registry
from bend_executors.model.settings import Settings as Settings
from bend_executors.model.settings import Source as Source
from bend_executors.model.settings import read
from bend_executors.service import Service

__all__ = ["ModelComponent", "Registry", "Settings", "Source", "service"]
# Batches are made of what waits here.
CREDIT = 512


def service(environment: Mapping[str, str], section: Section) -> Service:
    """Return what this folder serves."""
    home = Path(environment.get("BEND_HOME") or ".bend")
    models = Path(environment.get("BEND_MODEL_PATH", "") or home / "models")
    made = ModelComponent(read(section, models))
    return Service([made.infer], CREDIT, made.close)
