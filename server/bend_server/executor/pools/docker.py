"""Driver `docker`: instances are containers, found again by their labels.

Written against the engine's HTTP API through the package `docker`; its tests speak to a stand-in
that answers as the engine is documented to. It has not been run against a real engine yet.
"""

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from bend_server.executor.pools.driver import DriverFault, Unit
from bend_server.executor.pools.process import MARK, Access
from bend_server.executor.pools.spec import PoolSpec

API_VERSION = "1.43"
CALL_S = 15
SAMPLE_S = 5.0
POOL, NAME, NUMBER, MADE_FROM = "bend.pool", "bend.name", "bend.number", "bend.made-from"
FOLDER = "/etc/bend"
FILES = {"BEND_CA_FILE": "ca.pem", "BEND_CERT_FILE": "tls.crt", "BEND_KEY_FILE": "tls.key"}
PIDS_MAX = 512
NANO = 1_000_000_000
MIB = 1024 * 1024


class DockerDriver:
    """See `driver.Driver`.

    Args:
        access: gives an instance's certificate and the gateway's address.
        settings: from the operator's file: `url` of the engine (default: its usual socket),
            `gateway` (what containers dial, default: what processes here dial).

    Raises:
        DriverFault: the package is not installed, or the engine's URL is wrong.
    """

    outlives = True

    def __init__(self, access: Access, settings: Mapping[str, str]) -> None:
        try:
            # Only here: without pools of containers nobody needs the package.
            import docker
        except ModuleNotFoundError as error:
            raise DriverFault("the driver docker needs: pip install 'bend[docker]'") from error
        self._access = access
        self._gateway = settings.get("gateway", "")
        url = settings.get("url") or "unix:///var/run/docker.sock"
        self._faults = (docker.errors.DockerException, OSError)
        try:
            self._client = docker.APIClient(base_url=url, version=API_VERSION, timeout=CALL_S)
        except self._faults as error:
            raise DriverFault(f"the Docker engine {url} cannot be used: {error}") from error
        self._not_found = docker.errors.NotFound
        self._samples: dict[str, _Sample] = {}

    async def _call(self, what: str, method: Callable[..., Any], *given: Any, **more: Any) -> Any:
        try:
            return await asyncio.to_thread(method, *given, **more)
        except self._not_found:
            return None
        except self._faults as error:
            raise DriverFault(f"Docker did not {what}: {error}") from error

    async def units(self, spec: PoolSpec) -> list[Unit]:
        """See `driver.Driver`."""
        label = f"{POOL}={spec.namespace}/{spec.name}"
        found = await self._call(
            "list containers", self._client.containers, all=True, filters={"label": [label]}
        )
        return [await self._unit(one) for one in found or ()]

    async def _unit(self, one: Mapping[str, Any]) -> Unit:
        labels = one["Labels"]
        alive = one["State"] in {"created", "running", "restarting", "paused"}
        sample = await self._sample(one["Id"]) if one["State"] == "running" else _Sample()
        return Unit(
            name=labels[NAME],
            number=int(labels[NUMBER]),
            place=f"container {one['Id'][:12]}",
            alive=alive,
            started_us=int(one["Created"]) * 1_000_000,
            ended="" if alive else str(one.get("Status") or one["State"]),
            cpu=sample.cpu,
            memory_bytes=sample.memory_bytes,
            made_from=labels.get(MADE_FROM, ""),
        )

    async def _sample(self, id_: str) -> "_Sample":
        known = self._samples.get(id_)
        if known is not None and time.monotonic() - known.at < SAMPLE_S:
            return known
        stats = await self._call(
            "sample a container", self._client.stats, id_, stream=False, one_shot=True
        )
        sample = self._samples[id_] = _Sample.of(stats or {}, known)
        return sample

    async def start(self, spec: PoolSpec, name: str, number: int) -> None:
        """See `driver.Driver`: no privileges, a read-only root, the certificate read-only."""
        part = spec.driven
        try:
            access = dict(await asyncio.to_thread(self._access, spec.component))
        except (OSError, ValueError) as error:
            raise DriverFault(f"pool {spec.name}: {error}") from error
        made = await self._call(
            "make a container",
            self._client.create_container,
            part.image,
            command=list(part.command) or None,
            name=f"bend-{name}",
            environment=self._environment(spec, access, name),
            # Root would read every file of the host that is mounted.
            user=f"{os.getuid()}:{os.getgid()}" if os.getuid() else None,
            labels={
                POOL: f"{spec.namespace}/{spec.name}",
                NAME: name,
                NUMBER: str(number),
                MADE_FROM: spec.fingerprint,
            },
            host_config=self._host(spec, access),
            stop_timeout=int(spec.drain_s),
        )
        if made is None:
            raise DriverFault(f"Docker has no image {part.image}: pull it first")
        await self._call("start a container", self._client.start, made["Id"])

    def _environment(self, spec: PoolSpec, access: dict[str, str], name: str) -> dict[str, str]:
        variables = dict(access)
        if self._gateway:
            variables["BEND_URL"] = self._gateway
        for variable, file in FILES.items():
            if variable in variables:
                variables[variable] = f"{FOLDER}/{file}"
        return {**variables, **spec.driven.environment, MARK: f"{spec.name}/{name}"}

    def _host(self, spec: PoolSpec, access: Mapping[str, str]) -> Any:
        resources = spec.message.resources
        binds = [
            f"{Path(access[variable]).resolve()}:{FOLDER}/{file}:ro"
            for variable, file in FILES.items()
            if variable in access
        ]
        return self._client.create_host_config(
            binds=binds,
            network_mode=spec.driven.network or None,
            read_only=True,
            tmpfs={"/tmp": "rw,noexec,nosuid,size=64m"},  # noqa: S108 - inside the container
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            pids_limit=PIDS_MAX,
            init=True,
            mem_limit=resources.memory_mib * MIB or None,
            nano_cpus=round(resources.cpu * NANO) or None,
        )

    async def ask(self, spec: PoolSpec, name: str) -> None:
        """See `driver.Driver`: not `stop`, which would wait here for the whole drain."""
        await self._signal(name, "SIGTERM")

    async def kill(self, spec: PoolSpec, name: str) -> None:
        """See `driver.Driver`."""
        await self._signal(name, "SIGKILL")

    async def _signal(self, name: str, signal: str) -> None:
        try:
            await self._call("signal", self._client.kill, f"bend-{name}", signal=signal)
        except DriverFault as fault:
            # 409: it has ended by itself in between.
            if getattr(fault.__cause__, "status_code", 0) != 409:
                raise

    async def remove(self, spec: PoolSpec, name: str) -> None:
        """See `driver.Driver`."""
        await self._call(
            "remove a container", self._client.remove_container, f"bend-{name}", v=True, force=True
        )

    async def close(self) -> None:
        """See `driver.Driver`: containers stay, for the next executor."""
        await asyncio.to_thread(self._client.close)


class _Sample:
    """Use of one container, and what the next sample is compared with."""

    def __init__(self) -> None:
        self.at = time.monotonic()
        self.cpu = 0.0
        self.memory_bytes = 0
        self.used_ns = 0
        self.read_us = 0

    @classmethod
    def of(cls, stats: Mapping[str, Any], before: "_Sample | None") -> "_Sample":
        """Return the sample in an answer of `stats`."""
        sample = cls()
        memory = stats.get("memory_stats") or {}
        cache = (memory.get("stats") or {}).get("inactive_file", 0)
        sample.memory_bytes = max(0, int(memory.get("usage", 0)) - int(cache))
        usage = (stats.get("cpu_stats") or {}).get("cpu_usage") or {}
        sample.used_ns = int(usage.get("total_usage", 0))
        read = str(stats.get("read") or "")
        if read:
            # Nanoseconds are more than Python reads.
            text = read.partition(".")[0].rstrip("Z")
            fraction = read.partition(".")[2].rstrip("Z")[:6].ljust(6, "0")
            moment = datetime.fromisoformat(f"{text}.{fraction}+00:00")
            sample.read_us = int(moment.timestamp() * 1_000_000)
        if before is not None and sample.read_us > before.read_us > 0:
            used_us = (sample.used_ns - before.used_ns) / 1000
            sample.cpu = max(0.0, used_us / (sample.read_us - before.read_us))
        return sample
