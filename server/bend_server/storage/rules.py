"""What every store refuses, whatever it is made of."""

from bend_server.core.errors import AlreadyExists, WrongState
from bend_server.ports.store import ComponentRow, WorkflowSummary


def judge_revision(known: WorkflowSummary, same: bool, create_only: bool) -> None:
    """Refuse a revision of a workflow that is archived, or exists and may only be created."""
    if known.archived:
        raise WrongState(
            f"workflow {known.name} is archived",
            reason="WORKFLOW_ARCHIVED",
            workflow=known.name,
            namespace=known.namespace,
        )
    if create_only and not same:
        raise AlreadyExists(
            f"workflow {known.name} exists with another document",
            reason="WORKFLOW_EXISTS",
            workflow=known.name,
            namespace=known.namespace,
        )


def judge_version(known: ComponentRow, row: ComponentRow) -> None:
    """Refuse another contract under a version that is taken."""
    if known.digest != row.digest:
        raise WrongState(
            f"{row.name} {row.version} is registered with another contract; raise the version",
            reason="CONTRACT_MISMATCH",
            component=row.name,
            version=row.version,
            known=known.digest,
            offered=row.digest,
        )
