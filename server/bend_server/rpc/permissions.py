"""Who may call what: one line an RPC. An RPC that is missing here does not start the server.

A caller has a role: the first part of its SPIFFE path (`/user/ada` → `user`). Through the gateway
the role must hold the RPC's permission; without the gateway the role must also be one of the
RPC's direct callers, because inside the mesh each service talks to few others.
"""

from collections.abc import Iterable
from typing import NamedTuple

PUBLIC = ""
USUAL_DEADLINE_S = 30.0
WAIT_DEADLINE_S = 3630.0

_ALL = frozenset(
    (
        "workflows:read",
        "workflows:write",
        "workflows:run",
        "workflows:cancel",
        "executions:read",
        "executions:signal",
        "components:read",
        "components:register",
        # Which versions and instances get tasks.
        "components:operate",
        "pools:admin",
        "tasks:serve",
    )
)
GRANTS: dict[str, frozenset[str]] = {
    # Until roles exist a person who proved to be a user of this mesh may do everything.
    "user": _ALL,
    "bench": _ALL,
    "engine": frozenset(("components:read", "executions:read", "workflows:cancel")),
    "executor": frozenset(
        ("components:read", "components:register", "components:execute", "pools:sync")
    ),
    "component": frozenset(("tasks:serve", "components:read")),
    "registry": frozenset(("components:read",)),
    "gateway": frozenset(),
}


class Rule(NamedTuple):
    """What one RPC needs.

    `permission` PUBLIC: anybody whom the transport let in. `direct`: roles that may call without
    the gateway. `deadline_s`: the server's own bound of a call, None for streams.
    `validate`: check messages against the protos' limits in the interceptor.
    """

    permission: str
    direct: frozenset[str]
    deadline_s: float | None = USUAL_DEADLINE_S
    validate: bool = True


_ENGINE = frozenset(("bench", "engine"))
_REGISTRY = frozenset(("executor", "engine", "bench"))
_EXECUTOR = frozenset(("bench", "component"))
_MESH = frozenset(("gateway", "engine", "executor", "registry", "bench"))


def _rules(
    service: str, direct: frozenset[str], table: dict[str, tuple[str, float | None, bool]]
) -> dict[str, Rule]:
    return {
        f"/{service}/{name}": Rule(permission, direct, deadline_s, validate)
        for name, (permission, deadline_s, validate) in table.items()
    }


_USUAL = USUAL_DEADLINE_S
_WAIT = WAIT_DEADLINE_S

RULES: dict[str, Rule] = {
    **_rules(
        "bend.v1.EngineService",
        _ENGINE,
        {
            "CreateWorkflow": ("workflows:write", _USUAL, True),
            "UpdateWorkflow": ("workflows:write", _USUAL, True),
            "GetWorkflow": ("workflows:read", _USUAL, True),
            "ListWorkflows": ("workflows:read", _USUAL, True),
            "ListWorkflowRevisions": ("workflows:read", _USUAL, True),
            "ArchiveWorkflow": ("workflows:write", _USUAL, True),
            "RestoreWorkflow": ("workflows:write", _USUAL, True),
            "ValidateWorkflow": ("workflows:read", _USUAL, True),
            "RunWorkflow": ("workflows:run", _WAIT, True),
            "StartExecution": ("workflows:run", _USUAL, True),
            "StartExecutions": ("workflows:run", _USUAL, True),
            "GetExecution": ("executions:read", _USUAL, True),
            "ListExecutions": ("executions:read", _USUAL, True),
            "ListActiveExecutions": ("executions:read", _USUAL, True),
            "WaitExecution": ("executions:read", _WAIT, True),
            "WatchExecution": ("executions:read", None, True),
            "WatchExecutions": ("executions:read", None, True),
            "CancelExecution": ("workflows:cancel", _USUAL, True),
            "ListTaskRuns": ("executions:read", _USUAL, True),
            "RerunExecution": ("workflows:run", _USUAL, True),
            "PauseExecution": ("workflows:run", _USUAL, True),
            "ResumeExecution": ("workflows:run", _USUAL, True),
            "RetryExecution": ("workflows:run", _USUAL, True),
            "ResetExecution": ("workflows:run", _USUAL, True),
            "SignalExecution": ("executions:signal", _USUAL, True),
            "ListApprovals": ("executions:read", _USUAL, True),
            "DecideApproval": ("executions:signal", _USUAL, True),
            "BulkExecutions": ("workflows:cancel", _USUAL, True),
            "GetBulk": ("executions:read", _USUAL, True),
        },
    ),
    **_rules(
        "bend.v1.RegistryService",
        _REGISTRY,
        {
            "RegisterComponent": ("components:register", _USUAL, True),
            "GetComponent": ("components:read", _USUAL, True),
            "ListComponents": ("components:read", _USUAL, True),
            "ListComponentVersions": ("components:read", _USUAL, True),
            "ListInstances": ("components:read", _USUAL, True),
            "DeprecateComponentVersion": ("components:operate", _USUAL, True),
            "CheckCompatibility": ("components:read", _USUAL, True),
            "DrainInstance": ("components:operate", _USUAL, True),
            "SetComponentWeights": ("components:operate", _USUAL, True),
        },
    ),
    # Probes and tools need no proof: it tells nothing about workflows.
    **_rules(
        "bend.v1.OperationsService",
        _MESH,
        {"GetReadiness": (PUBLIC, _USUAL, True), "GetOpenApi": (PUBLIC, _USUAL, True)},
    ),
    # The stream carries many small results: its servicer checks what it takes, once.
    **_rules(
        "bend.v1.ExecutorService",
        _EXECUTOR,
        {
            "Connect": ("tasks:serve", None, False),
            "ListPools": ("components:read", _USUAL, True),
            "GetPoolStats": ("components:read", _USUAL, True),
            "PutPool": ("pools:admin", _USUAL, True),
            "ScalePool": ("pools:admin", _USUAL, True),
            "DeletePool": ("pools:admin", _USUAL, True),
        },
    ),
    **_rules(
        "bend.internal.v1.PoolService",
        frozenset(("executor",)),
        {"SyncPools": ("pools:sync", _USUAL, True), "ChangePool": ("pools:sync", _USUAL, True)},
    ),
    # Services outside of the mesh's own processes implement it; who may call is the same.
    **_rules(
        "bend.v1.ComponentService",
        frozenset(("executor",)),
        {
            "Describe": ("components:execute", _USUAL, True),
            "Execute": ("components:execute", None, False),
        },
    ),
    **_rules(
        "grpc.health.v1.Health",
        _MESH,
        {
            "Check": (PUBLIC, _USUAL, False),
            "List": (PUBLIC, _USUAL, False),
            "Watch": (PUBLIC, None, False),
        },
    ),
}


def missing(methods: Iterable[str]) -> list[str]:
    """Return the methods (`/package.Service/Method`) that have no rule, sorted."""
    return sorted(method for method in methods if method not in RULES)
