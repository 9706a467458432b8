"""Driver `kubernetes`: instances are pods, found again by their labels.

Written against the cluster's API through the package `kubernetes_asyncio`; its tests check every
object against that package's models and speak to a stand-in server. It has not been run against a
real cluster yet.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from bend_server.executor.pools import kubernetes_objects as objects
from bend_server.executor.pools.driver import DriverFault, Unit
from bend_server.executor.pools.spec import PoolSpec

CALL_S = 15.0
SAMPLE_S = 5.0
UNITS = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0}
BYTES = {"Ki": 1024, "Mi": 1024**2, "Gi": 1024**3, "Ti": 1024**4, "k": 1e3, "M": 1e6, "G": 1e9}

Connect = Callable[[], Awaitable[Any]]
"""Returns a kubernetes_asyncio ApiClient."""


class KubernetesDriver:
    """See `driver.Driver`.

    Args:
        settings: from the operator's file: `gateway` (what pods dial), `context` and `kubeconfig`
            (default: the cluster that this executor runs in, else the usual file).
        connect: makes the client; the package's own way when left out.

    Raises:
        DriverFault: the package is not installed, or `gateway` is missing.
    """

    outlives = True

    def __init__(self, settings: Mapping[str, str], connect: Connect | None = None) -> None:
        try:
            # Only here: without pools of pods nobody needs the package.
            from kubernetes_asyncio import client
        except ModuleNotFoundError as error:
            raise DriverFault(
                "the driver kubernetes needs: pip install 'bend[kubernetes]'"
            ) from error
        if not settings.get("gateway"):
            raise DriverFault("the driver kubernetes needs `gateway` in the file of pools")
        self._kube = client
        self._settings = settings
        self._connect = connect or self._usual
        self._api: Any = None
        self._samples: dict[str, tuple[float, int]] = {}
        self._sampled_at = 0.0

    async def _usual(self) -> Any:
        from kubernetes_asyncio import config

        if os.environ.get("KUBERNETES_SERVICE_HOST") and not self._settings.get("kubeconfig"):
            config.load_incluster_config()  # type: ignore[no-untyped-call]
            return self._kube.ApiClient()
        return await config.new_client_from_config(
            config_file=self._settings.get("kubeconfig"),
            context=self._settings.get("context"),
            persist_config=False,
        )

    async def _pods(self) -> Any:
        if self._api is None:
            try:
                self._api = await self._connect()
            except Exception as error:
                raise DriverFault(f"the cluster cannot be reached: {error}") from error
        return self._kube.CoreV1Api(self._api)

    async def _call(self, what: str, method: str, *given: Any, **more: Any) -> Any:
        api = await self._pods()
        try:
            async with asyncio.timeout(CALL_S):
                return await getattr(api, method)(*given, **more)
        except self._kube.ApiException as error:
            if error.status == 404:
                return None
            raise DriverFault(f"the cluster did not {what}: {error.status} {error.reason}") from (
                error
            )
        except (TimeoutError, OSError) as error:
            # aiohttp's errors of connections are OSErrors.
            raise DriverFault(f"the cluster did not {what}: {error or 'no answer'}") from error

    async def units(self, spec: PoolSpec) -> list[Unit]:
        """See `driver.Driver`."""
        found = await self._call(
            "list pods",
            "list_namespaced_pod",
            _space(spec),
            label_selector=objects.selector(spec),
        )
        items = found.items if found is not None else []
        if items:
            await self._sample(spec)
        return [self._unit(one) for one in items]

    def _unit(self, one: Any) -> Unit:
        meta, status = one.metadata, one.status
        phase = (status.phase if status is not None else "") or "Pending"
        alive = phase not in {"Succeeded", "Failed"}
        cpu, memory = self._samples.get(meta.name, (0.0, 0))
        made = meta.creation_timestamp
        return Unit(
            name=meta.name,
            number=int(meta.labels[objects.NUMBER]),
            place=f"pod {meta.namespace}/{meta.name}",
            alive=alive,
            started_us=int(made.timestamp() * 1e6) if made is not None else 0,
            ended="" if alive else _end_text(status),
            cpu=cpu,
            memory_bytes=memory,
            asked=meta.deletion_timestamp is not None,
            made_from=(meta.annotations or {}).get(objects.MADE_FROM, ""),
        )

    async def start(self, spec: PoolSpec, name: str, number: int) -> None:
        """See `driver.Driver`."""
        body = objects.pod(spec, name, number, self._settings["gateway"])
        made = await self._call("make a pod", "create_namespaced_pod", _space(spec), body)
        if made is None:
            raise DriverFault(f"the cluster has no namespace {_space(spec)!r}")

    async def ask(self, spec: PoolSpec, name: str) -> None:
        """See `driver.Driver`: the cluster sends SIGTERM, and SIGKILL after the drain."""
        grace_s = max(1, int(spec.drain_s))
        await self._delete(spec, name, grace_s)

    async def kill(self, spec: PoolSpec, name: str) -> None:
        """See `driver.Driver`."""
        await self._delete(spec, name, 0)

    async def remove(self, spec: PoolSpec, name: str) -> None:
        """See `driver.Driver`."""
        await self._delete(spec, name, 0)

    async def _delete(self, spec: PoolSpec, name: str, grace_s: int) -> None:
        await self._call(
            "delete a pod",
            "delete_namespaced_pod",
            name,
            _space(spec),
            grace_period_seconds=grace_s,
        )

    async def close(self) -> None:
        """See `driver.Driver`: pods stay, for the next executor."""
        api, self._api = self._api, None
        if api is not None:
            await api.close()

    async def _sample(self, spec: PoolSpec) -> None:
        """Ask the metrics server, where there is one: pools live without it."""
        if time.monotonic() - self._sampled_at < SAMPLE_S:
            return
        self._sampled_at = time.monotonic()
        try:
            async with asyncio.timeout(CALL_S):
                found = await self._kube.CustomObjectsApi(self._api).list_namespaced_custom_object(
                    "metrics.k8s.io",
                    "v1beta1",
                    _space(spec),
                    "pods",
                    label_selector=f"{objects.SPACE}={spec.namespace}",
                )
        except (self._kube.ApiException, TimeoutError, OSError):
            return
        for one in found.get("items", ()):
            usage = [part["usage"] for part in one.get("containers", ())]
            self._samples[one["metadata"]["name"]] = (
                sum(processors(str(part.get("cpu", "0"))) for part in usage),
                sum(byte_count(str(part.get("memory", "0"))) for part in usage),
            )


def processors(text: str) -> float:
    """Return processors of a quantity: `250m` is 0.25, `1500000n` is 0.0015."""
    suffix = text[-1:] if text[-1:] in "num" else ""
    return float(text.removesuffix(suffix) or 0) * UNITS[suffix]


def byte_count(text: str) -> int:
    """Return bytes of a quantity: `64Mi`, `128974848`, `129M`."""
    for suffix, size in BYTES.items():
        if text.endswith(suffix):
            return int(float(text.removesuffix(suffix)) * size)
    return int(float(text or 0))


def _space(spec: PoolSpec) -> str:
    return spec.driven.cluster_namespace or "default"


def _end_text(status: Any) -> str:
    for one in status.container_statuses or ():
        ended = one.state.terminated if one.state is not None else None
        if ended is not None:
            return f"exit code {ended.exit_code} ({ended.reason or 'no reason'})"
    return str(status.reason or status.phase)
