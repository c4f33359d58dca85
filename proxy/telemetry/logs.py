"""Logs: one JSON object per line on the standard library's logging. Never argument values, never exception messages.

A logger passes `extra={"trace": SpanContext, "fields": {...}}`; both are optional. Lines are ASCII: what is not is
escaped, so that no text of a model or an upstream can steer a terminal or forge a line.
"""

import json
import logging
import re
import sys
import threading
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TextIO

from proxy.model import SpanContext

_MAX_FRAMES = 8

_logger = logging.getLogger("sidegate")


class JsonFormatter(logging.Formatter):
    """`{"time", "level", "logger", "message", "trace_id"?, "span_id"?, "trace_flags"?, ..fields, "exception"?}`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line. Never raises: a line that cannot be written as it is says so."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
        }
        trace = getattr(record, "trace", None)
        if isinstance(trace, SpanContext):
            line |= {"trace_id": trace.trace_id, "span_id": trace.span_id, "trace_flags": trace.traceparent[-2:]}
        fields = getattr(record, "fields", None)
        if isinstance(fields, Mapping):
            line |= {key: value for key, value in fields.items() if key not in line}
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = _exception(record.exc_info[0], record.exc_info[2])
        return _dumped(line)


def configure(level: str, stream: TextIO) -> None:
    """Have all of the process's logs written to `stream` as JSON lines. Raises ValueError for a level nobody knows."""
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError("a log level is one of debug, info, warning, error, critical")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    logging.captureWarnings(capture=True)
    sys.excepthook = _uncaught
    threading.excepthook = _ended_thread
    sys.unraisablehook = _unraisable
    # Its report of a broken log call prints the arguments.
    logging.raiseExceptions = False


def _uncaught(kind: type[BaseException], fault: BaseException, trace: TracebackType | None) -> None:
    _logger.critical("a fault of Sidegate itself ends the process", exc_info=(kind, fault, trace))


def _ended_thread(args: threading.ExceptHookArgs) -> None:
    value = args.exc_value or args.exc_type()
    _logger.error("a fault has ended a thread", exc_info=(args.exc_type, value, args.exc_traceback))


def _unraisable(args: "sys.UnraisableHookArgs") -> None:
    value = args.exc_value or args.exc_type()
    _logger.error("a fault where none can be raised", exc_info=(args.exc_type, value, args.exc_traceback))


def _message(record: logging.LogRecord) -> str:
    try:
        text = record.getMessage()
        # asyncio prints callbacks with their arguments, and below that tasks with what their exceptions say.
        return re.split(r"[\n(]", text, maxsplit=1)[0] if record.name == "asyncio" else text
    except Exception:  # noqa: BLE001 - a broken log call must not raise where it was meant to help
        return str(record.msg)


def _exception(kind: type[BaseException], trace: TracebackType | None) -> dict[str, Any]:
    """Type and where: a message may hold what the line must not."""
    frames = traceback.extract_tb(trace)[-_MAX_FRAMES:]
    return {"type": kind.__name__, "at": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]}


def _dumped(line: Mapping[str, Any]) -> str:
    try:
        return _ENCODER.encode(line)
    except (ValueError, TypeError, RecursionError):
        plain = {key: value for key, value in line.items() if isinstance(value, str)}
        return _ENCODER.encode(plain | {"unwritable": True})


def _named(value: object) -> str:
    return type(value).__name__


_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False, default=_named)
