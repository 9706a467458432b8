"""The operator's file of pools: which there are, and what pools by API may do.

    api_drivers: [docker]      # drivers that PutPool may use; none when left out
    certificates: /etc/bend/component   # ca.pem, tls.crt, tls.key; default: issued here
    docker: {url: unix:///var/run/docker.sock, gateway: https://bend:8443}
    kubernetes: {context: prod, gateway: https://bend:8443}
    pools:
      - name: thumbnails
        component: thumbnail
        process: {command: [python, worker.py]}
        max_instances: 4

The keys of a pool are the fields of `bend.v1.Pool`.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from bend.v1 import pool_pb2
from bend_server.core import limits
from bend_server.executor.operator_files import FollowedFile, read_file
from bend_server.executor.pools.spec import DRIVERS, PoolSpec, pool_spec

KEYS = {"api_drivers", "certificates", "docker", "kubernetes", "pools"}


@dataclass(frozen=True, slots=True)
class PoolsFile:
    """What the file says; without a file all of it is empty.

    `docker` and `kubernetes` are the drivers' own settings: strings by name. `certificates` is
    the folder of the instances' certificate; empty: the mesh's own authority issues them.
    """

    pools: dict[tuple[str, str], PoolSpec] = field(default_factory=dict)
    api_drivers: frozenset[str] = frozenset()
    docker: dict[str, str] = field(default_factory=dict)
    kubernetes: dict[str, str] = field(default_factory=dict)
    certificates: str = ""


def read_pools(path: Path, namespace: str) -> PoolsFile:
    """Read the file; a missing one is empty.

    Raises:
        ConfigurationError: names the file and what is wrong in it.
    """
    return read_file(path, lambda document: _parsed(document, namespace))


def _parsed(document: Any, namespace: str) -> PoolsFile:
    if document is None:
        return PoolsFile()
    if not isinstance(document, dict):
        raise TypeError("a map is wanted")
    unknown = sorted(set(map(str, document)) - KEYS)
    if unknown:
        raise ValueError(f"unknown key {unknown[0]!r}; known are {', '.join(sorted(KEYS))}")
    drivers = document.get("api_drivers") or []
    if not isinstance(drivers, list) or set(map(str, drivers)) - set(DRIVERS):
        raise ValueError(f"api_drivers is a list of {', '.join(DRIVERS)}")
    pools: dict[tuple[str, str], PoolSpec] = {}
    for number, one in enumerate(_list(document.get("pools")), 1):
        if not isinstance(one, dict):
            raise TypeError(f"pool {number} is no map")
        try:
            message = json_format.ParseDict(one, pool_pb2.Pool())
        except json_format.ParseError as error:
            raise ValueError(error) from error
        spec = pool_spec(namespace, message)
        if spec.key in pools:
            raise ValueError(f"pool {spec.name!r} is there twice")
        pools[spec.key] = spec
    if len(pools) > limits.POOLS_MAX:
        raise ValueError(f"at most {limits.POOLS_MAX} pools")
    return PoolsFile(
        pools,
        frozenset(map(str, drivers)),
        _settings(document, "docker"),
        _settings(document, "kubernetes"),
        str(document.get("certificates") or ""),
    )


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise TypeError("pools is a list")
    return value


def _settings(document: dict[str, Any], key: str) -> dict[str, str]:
    value = document.get(key) or {}
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise ValueError(f"{key} is a map of texts")
    return {str(name): text for name, text in value.items()}


class FollowedPools(FollowedFile[PoolsFile]):
    """The file as it is now.

    Args:
        path: of the file.
        namespace: of its pools.

    Raises:
        ConfigurationError: it is wrong from the start.
    """

    def __init__(self, path: Path, namespace: str) -> None:
        super().__init__(path, lambda file: read_pools(file, namespace))
