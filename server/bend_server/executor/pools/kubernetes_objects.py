"""The objects that the driver `kubernetes` makes: plain dicts as the cluster's API takes them."""

from typing import Any

from bend_server.executor.pools.process import MARK
from bend_server.executor.pools.spec import PoolSpec

POOL, SPACE, NUMBER, MADE_FROM = "bend-pool", "bend-namespace", "bend-number", "bend-made-from"
FOLDER = "/etc/bend"
# Of the cluster's Secret, as cert-manager and `kubectl create secret tls` name them.
FILES = {"BEND_CA_FILE": "ca.crt", "BEND_CERT_FILE": "tls.crt", "BEND_KEY_FILE": "tls.key"}


def selector(spec: PoolSpec) -> str:
    """Return the label selector of a pool's pods."""
    return f"{POOL}={spec.name},{SPACE}={spec.namespace}"


def pod(spec: PoolSpec, name: str, number: int, gateway: str) -> dict[str, Any]:
    """Return the pod of one instance.

    It runs as no root, cannot gain privileges, has a read-only root and no token of the cluster.
    It is not restarted by the cluster: when it ends, the pool decides what follows.

    Args:
        gateway: https://host:port that it dials.
    """
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {
                POOL: spec.name,
                SPACE: spec.namespace,
                NUMBER: str(number),
                "app.kubernetes.io/name": spec.name,
                "app.kubernetes.io/managed-by": "bend",
            },
            "annotations": {MADE_FROM: spec.fingerprint},
        },
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": max(1, int(spec.drain_s)),
            "automountServiceAccountToken": bool(spec.driven.service_account),
            **({"serviceAccountName": spec.driven.service_account} if _named(spec) else {}),
            "securityContext": {
                "runAsNonRoot": True,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [_container(spec, name, gateway)],
            "volumes": _volumes(spec),
        },
    }


def _named(spec: PoolSpec) -> bool:
    return bool(spec.driven.service_account)


def _container(spec: PoolSpec, name: str, gateway: str) -> dict[str, Any]:
    part = spec.driven
    variables = {"BEND_URL": gateway}
    mounts = [{"name": "scratch", "mountPath": "/tmp"}]  # noqa: S108 - inside the container
    if part.certificate_secret:
        variables |= {key: f"{FOLDER}/{file}" for key, file in FILES.items()}
        mounts.append({"name": "certificate", "mountPath": FOLDER, "readOnly": True})  # type: ignore[dict-item]
    variables |= {**part.environment, MARK: f"{spec.name}/{name}"}
    container: dict[str, Any] = {
        "name": "component",
        "image": part.image,
        "env": [{"name": key, "value": value} for key, value in sorted(variables.items())],
        "resources": _resources(spec),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    }
    if part.command:
        container["args"] = list(part.command)
    return container


def _resources(spec: PoolSpec) -> dict[str, Any]:
    resources = spec.message.resources
    bounds = {}
    if resources.cpu:
        bounds["cpu"] = f"{round(resources.cpu * 1000)}m"
    if resources.memory_mib:
        bounds["memory"] = f"{resources.memory_mib}Mi"
    return {"requests": bounds, "limits": dict(bounds)} if bounds else {}


def _volumes(spec: PoolSpec) -> list[dict[str, Any]]:
    volumes: list[dict[str, Any]] = [{"name": "scratch", "emptyDir": {"sizeLimit": "64Mi"}}]
    if spec.driven.certificate_secret:
        volumes.append(
            {
                "name": "certificate",
                "secret": {"secretName": spec.driven.certificate_secret, "defaultMode": 0o440},
            }
        )
    return volumes
