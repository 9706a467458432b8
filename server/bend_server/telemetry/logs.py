"""Logging: structlog, one JSON object a line on stderr; text when a person reads it."""

import contextlib
import logging
import sys
from typing import Any, TextIO, cast

import orjson
import structlog

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def configure(process: str, level: str = "info", stream: TextIO | None = None) -> None:
    """Set up logging for this process, once, before anything logs.

    Libraries that log by the standard module are shown from `warning` on, in the same form.

    Args:
        process: name of the process, in every line.
        level: debug, info, warning or error.
        stream: where lines go; stderr when left out.
    """
    out = _Lossy(stream or sys.stderr)
    least = LEVELS[level]
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]
    render: Any = (
        structlog.dev.ConsoleRenderer()
        if out.isatty()
        else structlog.processors.JSONRenderer(serializer=_dumps)
    )
    structlog.configure(
        processors=[*shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", out)),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    # asyncio says this of every TLS connection that its peer closes; nothing follows from it.
    logging.getLogger("asyncio").addFilter(_means_something)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(least, logging.WARNING))


class _Lossy:
    """A stream whose lines may get lost: what cannot be logged must not end who logs it.

    A full disk, or a reader that went away. What was written before such a line stays whole.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self.isatty = out.isatty

    def write(self, text: str) -> None:
        """Write a line, when that is possible."""
        with contextlib.suppress(OSError):
            self._out.write(text)

    def flush(self) -> None:
        """Let what was written go out, when that is possible."""
        with contextlib.suppress(OSError):
            self._out.flush()


def _means_something(record: logging.LogRecord) -> bool:
    return "eof_received() has no effect" not in str(record.msg)


def _dumps(value: Any, **_options: Any) -> str:
    """Write JSON by orjson; what JSON cannot hold is shown as text."""
    return orjson.dumps(value, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()
