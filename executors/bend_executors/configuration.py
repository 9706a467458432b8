"""What the operator allows the built-in components: one YAML file, a section a component.

The file is BEND_COMPONENTS_FILE, else `$BEND_HOME/components.yaml`; without it every section is
empty and every component has its safe defaults. A value `{secret: NAME}` is read from the variable
BEND_SECRET_NAME or from the file NAME in the folder BEND_SECRETS_DIR. Workflows cannot reach any
of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from bend.errors import ConfigurationError

T = TypeVar("T")
_REQUIRED: Any = object()


class Section:
    """One map of the file. Every key must be taken: what nobody reads is a mistake of spelling."""

    def __init__(
        self, place: str, values: Mapping[str, Any], environment: Mapping[str, str]
    ) -> None:
        self._place = place
        self._values = dict(values)
        self._environment = environment

    @property
    def place(self) -> str:
        """Where it stands, as errors show it: file and keys."""
        return self._place

    def take(self, key: str, kind: type[T] | tuple[type, ...], default: T | Any = _REQUIRED) -> Any:
        """Return a value and remove it; secrets are resolved.

        Raises ConfigurationError: missing without a default, or of another type.
        """
        if key not in self._values:
            if default is _REQUIRED:
                raise ConfigurationError(f"{self._place}: '{key}' is missing")
            return default
        value = self._resolved(key, self._values.pop(key))
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        wrong_bool = isinstance(value, bool) and kind is not bool
        if not isinstance(value, kind) or wrong_bool:
            names = kind if isinstance(kind, tuple) else (kind,)
            wanted = " or ".join(name.__name__ for name in names)
            raise ConfigurationError(f"{self._place}.{key}: {wanted} is wanted")
        return value

    def section(self, key: str) -> "Section":
        """Return a map below this one; an empty one when it is not there."""
        value = self.take(key, dict, {})
        return Section(f"{self._place}.{key}", value, self._environment)

    def sections(self, key: str) -> Iterator[tuple[str, "Section"]]:
        """Yield (name, map) of a map of maps."""
        outer = self.section(key)
        for name in list(outer.keys()):
            yield name, outer.section(name)

    def keys(self) -> list[str]:
        """Return the keys that nobody took yet."""
        return [str(key) for key in self._values]

    def done(self) -> None:
        """Refuse what nobody took. Raises ConfigurationError naming the first such key."""
        for key in self._values:
            raise ConfigurationError(f"{self._place}: unknown key '{key}'")

    def _resolved(self, key: str, value: Any) -> Any:
        if not (isinstance(value, dict) and set(value) == {"secret"}):
            return value
        name = str(value["secret"])
        found = secret(self._environment, name)
        if found is None:
            raise ConfigurationError(f"{self._place}.{key}: there is no secret {name}")
        return found


class Configuration:
    """The file, read once. Raises ConfigurationError for a file that is no map of maps."""

    def __init__(self, values: Mapping[str, Any], place: str, environment: Mapping[str, str]):
        self._values = values
        self._place = place
        self._environment = environment

    def section(self, name: str) -> Section:
        """Return a component's section; an empty one when the file has none."""
        found = self._values.get(name) or {}
        if not isinstance(found, dict):
            raise ConfigurationError(f"{self._place}: '{name}' is no map")
        return Section(f"{self._place}: {name}", found, self._environment)

    def done(self, known: Sequence[str]) -> None:
        """Refuse sections that no component reads."""
        for name in self._values:
            if name not in known:
                raise ConfigurationError(f"{self._place}: there is no component '{name}'")


def load(environment: Mapping[str, str]) -> Configuration:
    """Read the file that the environment names."""
    named = environment.get("BEND_COMPONENTS_FILE", "")
    path = Path(named or Path(environment.get("BEND_HOME") or ".bend") / "components.yaml")
    if not named and not path.exists():
        return Configuration({}, str(path), environment)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise ConfigurationError(f"{path}: a map of components is wanted")
    return Configuration(values, str(path), environment)


def secret(environment: Mapping[str, str], name: str) -> str | None:
    """Return a secret of the operator's: BEND_SECRET_<NAME>, then a file in BEND_SECRETS_DIR."""
    for variable in (f"BEND_SECRET_{name}", f"BEND_SECRET_{name.upper()}"):
        if variable in environment:
            return environment[variable]
    folder = environment.get("BEND_SECRETS_DIR", "")
    if not folder or not name.replace("_", "").replace("-", "").isalnum():
        return None
    try:
        return (Path(folder) / name).read_text(encoding="utf-8").rstrip("\n")
    except OSError:
        return None
