"""The server's errors, one tree.

    DomainError
    ├── InvalidInput        the request or document is wrong; says where
    │   └── InvalidDocument carries every finding
    ├── NotFound
    ├── AlreadyExists
    ├── WrongState          look, then decide
    ├── Conflict            read again, retry
    │   └── LeaseLost       another owner has the partition: drop the work
    ├── LimitExceeded       names the limit, the place and the size
    ├── Unauthenticated
    ├── NotPermitted
    ├── DependencyDown      SQL or NATS cannot be reached
    ├── CorruptHistory      stored rows contradict each other: quarantine
    └── InvariantBroken     a fault of ours: quarantine, never guess

Each has a `reason` (a name of bend.v1.ErrorReason without prefix) and `metadata` with every value
that the text shows. rpc/errors.py holds the only table to gRPC codes.
"""

from typing import NamedTuple


class DomainError(Exception):
    """Base of all; `reason` and `metadata` are for programs, the text is for people."""

    reason = "INTERNAL"

    def __init__(self, message: str, *, reason: str | None = None, **metadata: object) -> None:
        super().__init__(message)
        self.message = message
        if reason is not None:
            self.reason = reason
        self.metadata = {key: str(value) for key, value in metadata.items()}


class InvalidInput(DomainError):
    """The request is wrong and will stay wrong."""

    reason = "INVALID_REQUEST"


class Finding(NamedTuple):
    """One problem in a document: reason, text, path in the document, line and column from 1."""

    reason: str
    message: str
    path: str = ""
    line: int = 0
    column: int = 0


class InvalidDocument(InvalidInput):
    """A workflow document is wrong; `findings` has at least one entry, in document order."""

    reason = "INVALID_DOCUMENT"

    def __init__(self, findings: list[Finding]) -> None:
        first = findings[0]
        more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        super().__init__(
            f"{first.line}:{first.column}: {first.reason}: {first.message}{more}",
            path=first.path,
            line=first.line,
            column=first.column,
            finding=first.reason,
        )
        self.findings = findings


class NotFound(DomainError):
    """The named thing does not exist in the namespace."""

    reason = "EXECUTION_NOT_FOUND"


class AlreadyExists(DomainError):
    """The chosen name or request id is taken."""

    reason = "EXECUTION_EXISTS"


class WrongState(DomainError):
    """The thing exists but is in a state that forbids the call."""

    reason = "WRONG_STATE"


class Conflict(DomainError):
    """Something moved while the call ran."""

    reason = "OWNERSHIP_MOVED"


class LeaseLost(Conflict):
    """This engine no longer owns what it tried to write: nothing was written."""


class LimitExceeded(DomainError):
    """A bound was hit."""

    reason = "TOO_LARGE"


class Unauthenticated(DomainError):
    """The caller did not prove who it is."""

    reason = "UNAUTHENTICATED"


class NotPermitted(DomainError):
    """The caller may not do this."""

    reason = "PERMISSION_DENIED"


class DependencyDown(DomainError):
    """SQL, NATS or the blob store cannot be reached; the outcome of a write is unknown."""

    reason = "DEPENDENCY_DOWN"


class CorruptHistory(DomainError):
    """Stored rows of an execution contradict each other."""

    reason = "CORRUPT_HISTORY"


class InvariantBroken(DomainError):
    """A fault of ours: the execution is quarantined."""

    reason = "INTERNAL"
