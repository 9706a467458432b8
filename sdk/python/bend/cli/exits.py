"""Exit codes of every command; scripts rely on them."""

from bend import errors

OK = 0
FAILED = 1
USAGE = 2
INVALID_DOCUMENT = 3
NOT_FOUND = 4
UNREACHABLE = 5
REFUSED = 6
CANCELLED = 7
WAIT_TIMED_OUT = 8
INTERRUPTED = 130

BY_ERROR: tuple[tuple[type[errors.BendError], int], ...] = (
    (errors.ConfigurationError, USAGE),
    (errors.InvalidDocument, INVALID_DOCUMENT),
    (errors.InvalidRequest, USAGE),
    (errors.NotFound, NOT_FOUND),
    (errors.Unreachable, UNREACHABLE),
    (errors.ExecutionFailed, FAILED),
)

BY_STATUS = {"COMPLETED": OK, "FAILED": FAILED, "TIMED_OUT": FAILED, "CANCELLED": CANCELLED}


def code_of(error: errors.BendError) -> int:
    """Return the exit code of an error; whatever the service declined is 6."""
    for kind, code in BY_ERROR:
        if isinstance(error, kind):
            return code
    return REFUSED


def code_of_status(status: str) -> int:
    """Return the exit code for how an execution ended; one that still runs timed the wait out."""
    return BY_STATUS.get(status, WAIT_TIMED_OUT)
