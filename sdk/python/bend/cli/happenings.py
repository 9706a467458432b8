"""What a watch event says to people, in a few words."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bend.cli.console import counted

if TYPE_CHECKING:
    from bend.models import WatchEvent

# What an execution goes through while its status stays the same.
PHASES = {
    "FAILING": "failing",
    "HANDLING_FAILURE": "running the on_failure tasks",
    "COMPENSATING": "compensating",
    "EXECUTION_TIMED_OUT": "out of time",
    "CANCEL_REQUESTED": "cancelling",
    "RESUMED": "resumed",
    "RETRIED": "retried",
    "RESET": "reset",
}

TO_DECIDE = " (see: bend approvals list)"


def task_words(event: "WatchEvent") -> tuple[str, int]:
    """Return why a task waits, failed or what it started; and how many items it has, or 0.

    A task that completed says nothing here: its output is no news of a line.
    """
    data = event.data if event.status not in ("COMPLETED", "SKIPPED") else None
    if not isinstance(data, dict):
        return (data if isinstance(data, str) else ""), 0
    body = data.get("body")
    if event.status in ("WAITING", "RUNNING") and isinstance(body, dict):
        count = body.get("count")
        if data.get("event") == "ITEMS_COUNTED" and isinstance(count, int):
            return counted(count, "item"), count
        if data.get("event") == "CHILD_STARTED":
            return f"child {body.get('public_id', '')}".rstrip(), 0
        return wait_words(body), 0
    waiting = str(data.get("waiting", ""))
    if waiting.startswith("approval "):
        waiting += TO_DECIDE
    reason, message = data.get("reason", ""), data.get("message", "") or waiting
    return ": ".join(part for part in (str(reason), str(message)) if part), 0


def wait_words(body: dict[str, Any]) -> str:
    """Return what one of the engine's own types waits for, and how to answer it."""
    name, title, due_us = body.get("name"), body.get("title"), body.get("due_us")
    words = f"signal {name}" if name else f"approval {title}" if title else ""
    if isinstance(due_us, int) and due_us:
        until = datetime.fromtimestamp(due_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        words = f"{words or 'timer'} until {until}"
    return words + TO_DECIDE if words.startswith("approval ") else words


def execution_words(event: "WatchEvent") -> str:
    """Return what an execution goes through, or "" when its status says it all."""
    data = event.data if not event.terminal else None
    if not isinstance(data, dict):
        return ""
    body = data.get("body")
    if event.status == "PAUSED":
        return str(body.get("reason", "")) if isinstance(body, dict) else ""
    return PHASES.get(str(data.get("event", "")), "")


def log_text(event: "WatchEvent") -> str:
    """Return a log line's text."""
    data = event.data
    return str(data.get("message", "")) if isinstance(data, dict) else str(data)


def is_debug(event: "WatchEvent") -> bool:
    """Whether a log line is for those who look for a fault; `--json` shows it."""
    return isinstance(event.data, dict) and event.data.get("level") == "debug"
