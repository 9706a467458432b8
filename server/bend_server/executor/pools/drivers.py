"""The drivers of one executor: each made when the first pool needs it."""

from collections.abc import Callable, Mapping
from pathlib import Path

from bend_server.executor.pools.configuration import FollowedPools
from bend_server.executor.pools.driver import Driver
from bend_server.executor.pools.process import Access, ProcessDriver
from bend_server.executor.pools.spec import DOCKER, KUBERNETES, PROCESS

MARKS = "pools.json"


class Drivers:
    """Makes drivers; each pool of a kind shares one.

    Args:
        file: the operator's settings.
        access: gives an instance's certificate and the gateway's address.
        home: `logs` and `run` lie in it.
    """

    def __init__(self, file: FollowedPools, access: Access, home: Path) -> None:
        self._file = file
        self._access = access
        self.process = ProcessDriver(access, home / "logs", home / "run" / MARKS)
        self._made: dict[str, Driver] = {PROCESS: self.process}

    def __call__(self, kind: str) -> Driver:
        """Return the driver of a kind. Raises DriverFault."""
        found = self._made.get(kind)
        if found is None:
            found = self._made[kind] = self._make(kind)
        return found

    def _make(self, kind: str) -> Driver:
        content = self._file.content
        if kind == DOCKER:
            from bend_server.executor.pools.docker import DockerDriver

            return DockerDriver(self._access, content.docker)
        assert kind == KUBERNETES  # noqa: S101 - a description with another one is refused
        from bend_server.executor.pools.kubernetes import KubernetesDriver

        return KubernetesDriver(content.kubernetes)


def given_access(folder: Path, url: str) -> Access:
    """Return access by files that the operator gave: `ca.pem`, `tls.crt` and `tls.key`."""

    def access(component: str) -> Mapping[str, str]:
        found = {
            "BEND_CA_FILE": folder / "ca.pem",
            "BEND_CERT_FILE": folder / "tls.crt",
            "BEND_KEY_FILE": folder / "tls.key",
        }
        for path in found.values():
            if not path.is_file():
                raise FileNotFoundError(f"{path} is not there")
        return {"BEND_URL": url, **{name: str(path) for name, path in found.items()}}

    return access


def issued_access(issue: Callable[[str], tuple[Path, Path]], ca: Path, url: str) -> Access:
    """Return access by certificates that this mesh's own authority issues.

    Args:
        issue: takes an identity's path, returns its certificate and key.
    """

    def access(component: str) -> Mapping[str, str]:
        if not url:
            raise ValueError("BEND_URL is not set: instances would not know whom to dial")
        certificate, key = issue(f"/component/{component}")
        return {
            "BEND_URL": url,
            "BEND_CA_FILE": str(ca),
            "BEND_CERT_FILE": str(certificate),
            "BEND_KEY_FILE": str(key),
        }

    return access
