"""The SDK's errors, one tree.

    BendError
    ├── ConfigurationError      a setting is missing, unknown or wrong
    ├── Unreachable             no answer in time, or the service is away: retry later
    ├── InvalidRequest          the request is wrong and will stay wrong
    │   ├── InvalidDocument     a workflow document; carries every finding
    │   └── InvalidParameters   the parameters do not fit the workflow's input schema
    ├── NotFound
    ├── AlreadyExists
    ├── WrongState              the thing is in a state that forbids the call
    │   ├── ContractMismatch    this component version is registered with another contract
    │   └── ProtocolMismatch    SDK and executor speak different protocol versions
    ├── Conflict                something moved: read again, retry
    ├── LimitExceeded           over a limit, or overloaded
    ├── Unauthenticated
    ├── NotPermitted
    ├── ServerFault             a fault of the service's own
    ├── ExecutionFailed         an execution ended otherwise than COMPLETED
    └── ComponentError          what a component raises on purpose
        ├── RetryableError      another attempt may succeed
        └── TerminalError       no attempt will succeed

`reason` is a stable name in UPPER_SNAKE_CASE, `metadata` has every value that the text shows.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import NamedTuple


class BendError(Exception):
    """Base of all errors of the SDK; `reason` and `metadata` are for programs.

    `source` is the document file that the error is about, or empty.
    """

    reason = "INTERNAL"
    source = ""

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        if reason:
            self.reason = reason
        self.metadata = dict(metadata or {})


class ConfigurationError(BendError):
    """A setting is missing, unknown or wrong; nothing was sent."""

    reason = "CONFIGURATION"


class Unreachable(BendError):
    """The service did not answer; an idempotent call may be repeated."""

    reason = "UNREACHABLE"


class InvalidRequest(BendError):
    """The request is wrong and will stay wrong."""

    reason = "INVALID_REQUEST"


class Finding(NamedTuple):
    """One problem in a document: reason, text, path, and line and column from 1 (0: unknown)."""

    reason: str
    message: str
    path: str = ""
    line: int = 0
    column: int = 0


class InvalidDocument(InvalidRequest):
    """A workflow document is wrong; `findings` has at least one entry."""

    reason = "INVALID_DOCUMENT"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        metadata: Mapping[str, str] | None = None,
        findings: list[Finding] | None = None,
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)
        self.findings = findings or [Finding(self.reason, message)]


class InvalidParameters(InvalidRequest):
    """The parameters do not fit the workflow's input schema, or are not JSON."""

    reason = "INVALID_PARAMETERS"


class NotFound(BendError):
    """The named workflow, execution or component does not exist in the namespace."""

    reason = "NOT_FOUND"


class AlreadyExists(BendError):
    """The chosen name or request id is taken."""

    reason = "ALREADY_EXISTS"


class WrongState(BendError):
    """The thing exists but is in a state that forbids the call."""

    reason = "WRONG_STATE"


class ContractMismatch(WrongState):
    """This version of the component is registered with another contract: raise the version."""

    reason = "CONTRACT_MISMATCH"


class ProtocolMismatch(WrongState):
    """SDK and executor speak different protocol versions: upgrade the older one."""

    reason = "PROTOCOL_MISMATCH"


class Conflict(BendError):
    """Something moved while the call ran; read again and retry."""

    reason = "OWNERSHIP_MOVED"


class LimitExceeded(BendError):
    """A limit was hit: the text names the limit, the place and the size."""

    reason = "TOO_LARGE"


class Unauthenticated(BendError):
    """No valid certificate or token came with the call."""

    reason = "UNAUTHENTICATED"


class NotPermitted(BendError):
    """The caller's identity may not do this."""

    reason = "PERMISSION_DENIED"


class ServerFault(BendError):
    """A fault of the service's own; its log has the id in `metadata`."""

    reason = "INTERNAL"


class ExecutionFailed(BendError):
    """An execution ended otherwise than COMPLETED; `status`, `execution_id` and `task` say how."""

    reason = "EXECUTION_FAILED"

    def __init__(
        self, message: str, *, reason: str, status: str, execution_id: str, task: str = ""
    ) -> None:
        super().__init__(
            message,
            reason=reason,
            metadata={"status": status, "execution_id": execution_id, "task": task},
        )
        self.status = status
        self.execution_id = execution_id
        self.task = task


class ComponentError(BendError):
    """What a component raises on purpose; becomes the task's failure."""

    retryable = False

    def __init__(
        self,
        reason: str,
        message: str = "",
        *,
        retry_after: float | timedelta | None = None,
        details: object = None,
    ) -> None:
        super().__init__(message or reason, reason=reason)
        self.retry_after_s = (
            retry_after.total_seconds() if isinstance(retry_after, timedelta) else retry_after
        )
        self.details = details


class RetryableError(ComponentError):
    """Raise it in a component when another attempt may succeed.

    Args:
        reason: UPPER_SNAKE_CASE, at most 128 characters; retry policies match on it.
        message: text for people, at most 8 KiB.
        retry_after: seconds (or timedelta) before which another attempt makes no sense.
        details: JSON value for programs, at most 16 KiB.
    """

    retryable = True


class TerminalError(ComponentError):
    """Raise it in a component when no attempt will succeed: the task fails at once.

    Args:
        reason: UPPER_SNAKE_CASE, at most 128 characters.
        message: text for people, at most 8 KiB.
        details: JSON value for programs, at most 16 KiB.
    """

    def __init__(self, reason: str, message: str = "", *, details: object = None) -> None:
        super().__init__(reason, message, details=details)
