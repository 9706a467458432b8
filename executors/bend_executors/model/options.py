"""What `model.json` or `model.yaml` beside a model says about it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bend import TerminalError
from bend_executors.model.folder import CONFIG_FILES, SHA256
from bend_executors.model.settings import BATCH_ROWS_MAX, THREADS_MAX

CONFIG_BYTES_MAX = 1024 * 1024
AXIS_MAX = 7

# The axis of the samples by name of an input or output; None: it has none.
Axes = Mapping[str, int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """One model's configuration; None leaves a choice to the component's settings.

    `axes` is empty when the model's own shapes decide: a free first size is the batch.
    """

    batch: bool = True
    axes: Axes = field(default_factory=dict)
    batch_max: int | None = None
    threads: int | None = None
    warm_up: bool | None = None
    sha256: str = ""
    labels: tuple[Any, ...] = ()
    pre: Mapping[str, str] = field(default_factory=dict)
    post: Mapping[str, str] = field(default_factory=dict)


def read(folder: Path, configured: Mapping[str, Any]) -> ModelOptions:
    """Return a model's options: the configured ones, else those of the file beside the model.

    Raises TerminalError MODEL_INVALID that names the file and the key.
    """
    if configured:
        return parsed(configured, "config")
    for name in CONFIG_FILES:
        path = folder / name
        try:
            if path.stat().st_size > CONFIG_BYTES_MAX:
                raise invalid(name, f"has more than {CONFIG_BYTES_MAX} bytes")
            # JSON is YAML, so one reader does.
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise invalid(name, f"cannot be read: {str(error).splitlines()[0]}") from None
        if not isinstance(values, dict):
            raise invalid(name, "a map is wanted")
        return parsed(values, name)
    return ModelOptions()


def invalid(place: str, text: str) -> TerminalError:
    """Return the error for a wrong configuration."""
    return TerminalError("MODEL_INVALID", f"{place}: {text}")


def parsed(values: Mapping[str, Any], place: str) -> ModelOptions:
    """Check each key. Raises TerminalError MODEL_INVALID."""
    left = dict(values)

    def take(key: str, kind: type, default: Any) -> Any:
        value = left.pop(key, default)
        wrong = isinstance(value, bool) and kind is not bool
        if value is not default and (wrong or not isinstance(value, kind)):
            raise invalid(place, f"{key}: {kind.__name__} is wanted")
        return value

    def most(key: str, limit: int) -> int | None:
        value: int | None = take(key, int, None)
        if value is not None and not 1 <= value <= limit:
            raise invalid(place, f"{key}: 1 to {limit} is wanted, got {value}")
        return value

    def expressions(key: str) -> dict[str, str]:
        found: dict[str, str] = take(key, dict, {})
        for name, text in found.items():
            if not isinstance(name, str) or not isinstance(text, str):
                raise invalid(place, f"{key}.{name}: an expression in CEL is wanted")
        return found

    axes = take("axes", dict, {})
    for name, axis in axes.items():
        fine = axis is None or (type(axis) is int and 0 <= axis <= AXIS_MAX)
        if not isinstance(name, str) or not fine:
            raise invalid(place, f"axes.{name}: 0 to {AXIS_MAX} or null is wanted")
    sha256 = take("sha256", str, "").lower()
    if sha256 and not SHA256.fullmatch(sha256):
        raise invalid(place, "sha256: 64 hexadecimal digits are wanted")
    made = ModelOptions(
        batch=take("batch", bool, True),
        axes=axes,
        batch_max=most("batch_max", BATCH_ROWS_MAX),
        threads=most("threads", THREADS_MAX),
        warm_up=take("warm_up", bool, None),
        sha256=sha256,
        labels=tuple(take("labels", list, [])),
        pre=expressions("pre"),
        post=expressions("post"),
    )
    for key in left:
        raise invalid(place, f"unknown key '{key}'")
    return made
