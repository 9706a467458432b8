"""What every store refuses, whatever it is made of."""

from bend_server.core.errors import AlreadyExists, InvariantBroken, WrongState
from bend_server.core.model import StartRow
from bend_server.ports.store import Batch, ComponentRow, WorkflowSummary


def distinct_starts(batch: Batch) -> list[tuple[StartRow, bool]]:
    """Return the starts of a batch that are judged, each with its `starts_current` flag.

    Of starts that share an id, a request id or a public id only the first is judged, whatever
    comes of it; the others are refused, and their callers find the first, or ask again.
    """
    if len(batch.starts) != len(batch.starts_current):
        raise InvariantBroken("starts and starts_current differ in length")
    seen: set[object] = set()
    kept = []
    for row, current in zip(batch.starts, batch.starts_current, strict=True):
        keys: list[object] = [row.id, (row.namespace, row.public_id)]
        if row.request_id is not None:
            keys.append((row.namespace, row.request_id, "request"))
        fresh = seen.isdisjoint(keys)
        seen.update(keys)
        if fresh:
            kept.append((row, current))
    return kept


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
