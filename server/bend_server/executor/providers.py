"""Where secrets come from: files of a folder, then the environment; both for all namespaces."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import structlog

from bend_server.core import limits
from bend_server.executor.secrets import EnvironmentSecrets
from bend_server.ports.links import Secrets

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")

_log = structlog.get_logger(__name__)


class _Read(NamedTuple):
    """A file's content as of one state of it."""

    stamp: tuple[int, int, int]
    value: str | None


class FileSecrets:
    """Secrets as files, each named by a secret, as Docker and Kubernetes mount them.

    A file's text is the value, without one line end after it. It is read again when the file was
    changed or replaced. A file that is no text of at most 64 KiB counts as absent, and the log
    says why.

    Args:
        folder: the folder; it may appear later.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, _Read] = {}

    async def get(self, namespace: str, name: str) -> str | None:
        """See ports.links.Secrets; only names of letters, digits and underscores are files."""
        if not NAME.fullmatch(name):
            return None
        file = self._folder / name
        try:
            # A mount replaces the link that leads to the file: what it leads to is looked at.
            state = await asyncio.to_thread(file.stat)
        except (FileNotFoundError, NotADirectoryError):
            self._known.pop(name, None)
            return None
        except OSError as error:
            return _unusable(name, str(error))
        stamp = (state.st_mtime_ns, state.st_ino, state.st_size)
        known = self._known.get(name)
        if known is None or known.stamp != stamp:
            value = await asyncio.to_thread(_content, file, name)
            known = self._known[name] = _Read(stamp, value)
        return known.value


class SecretProviders:
    """Several providers; the first that has a secret gives it.

    Args:
        providers: in the order in which they are asked.
    """

    def __init__(self, providers: Sequence[Secrets]) -> None:
        self._providers = tuple(providers)

    async def get(self, namespace: str, name: str) -> str | None:
        """See ports.links.Secrets. One that is away ends the search: a later one could differ."""
        for provider in self._providers:
            value = await provider.get(namespace, name)
            if value is not None:
                return value
        return None


def secret_providers(environment: Mapping[str, str], folder: Path | None) -> SecretProviders:
    """Return what an executor asks: the folder's files when there is one, then the environment."""
    files: list[Secrets] = [FileSecrets(folder)] if folder is not None else []
    return SecretProviders([*files, EnvironmentSecrets(environment)])


def _content(file: Path, name: str) -> str | None:
    """Return what a file holds; None when it is no secret."""
    why = ""
    try:
        # What is no file could block for ever when it is opened.
        data = _head(file) if file.is_file() else None
        if data is None:
            why = "not a regular file"
        elif len(data) > limits.SECRET_BYTES_MAX:
            why = f"over {limits.SECRET_BYTES_MAX} bytes"
        else:
            return data.decode().removesuffix("\n").removesuffix("\r")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        # Its text would show a part of the value.
        why = "not UTF-8"
    except OSError as error:
        why = str(error)
    return _unusable(name, why)


def _head(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(limits.SECRET_BYTES_MAX + 1)


def _unusable(name: str, why: str) -> str | None:
    """Say why a file is no secret: then there is none."""
    _log.error("secret_file_unusable", secret=name, why=why)
    return None
