"""The operator's YAML files, `pools.yaml` and `listeners.yaml`: read, and read again on change."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import structlog
import yaml

from bend.errors import ConfigurationError
from bend_server.core.errors import InvalidInput

T = TypeVar("T")

_log = structlog.get_logger(__name__)


def read_file(path: Path, parse: Callable[[Any], T]) -> T:
    """Read a file; a missing or empty one is parsed as None.

    Args:
        path: of the file.
        parse: makes the content of the document. Raises ValueError, TypeError or InvalidInput.

    Raises:
        ConfigurationError: names the file and what is wrong in it.
    """
    try:
        document = yaml.safe_load(path.read_bytes())
    except FileNotFoundError:
        document = None
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    try:
        return parse(document)
    except (InvalidInput, TypeError, ValueError) as error:
        raise ConfigurationError(f"{path}: {error}", reason="INVALID_SETTING") from error


class FollowedFile(Generic[T]):
    """A file as it is now: read again when it changed, the last good one when it is wrong.

    Args:
        path: of the file.
        read: makes its content. Raises ConfigurationError.

    Raises:
        ConfigurationError: it is wrong from the start.
    """

    def __init__(self, path: Path, read: Callable[[Path], T]) -> None:
        self._path = path
        self._read = read
        self._stamp = self._look()
        self.content = read(path)

    def refresh(self) -> bool:
        """Read it again when it changed; return whether its content did. Logs a wrong one."""
        stamp = self._look()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            self.content = self._read(self._path)
        except ConfigurationError as error:
            _log.error("operator_file_wrong", file=str(self._path), error=str(error))
            return False
        return True

    def _look(self) -> tuple[int, int]:
        try:
            found = self._path.stat()
        except OSError:
            return 0, 0
        return found.st_mtime_ns, found.st_size
