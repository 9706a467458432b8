"""Logging: structlog, one JSON object a line on stderr; text when a person reads it."""

import logging
import sys
from typing import Any, TextIO

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
    out = stream or sys.stderr
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
        logger_factory=structlog.WriteLoggerFactory(out),
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


def _means_something(record: logging.LogRecord) -> bool:
    return "eof_received() has no effect" not in str(record.msg)


def _dumps(value: Any, **_options: Any) -> str:
    """Write JSON by orjson; what JSON cannot hold is shown as text."""
    return orjson.dumps(value, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()
