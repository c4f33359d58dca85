"""Log lines: one JSON object each, whatever is logged."""

import io
import json
import logging
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.telemetry.logs import JsonFormatter, configure
from tests.telemetry.samples import PARENT, SECRET


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What the process logs, until the test ends."""
    root, stream = logging.getLogger(), io.StringIO()
    before = (root.handlers[:], root.level, logging.raiseExceptions)
    hooks = (sys.excepthook, threading.excepthook, sys.unraisablehook)
    configure("info", stream)
    yield stream
    logging.captureWarnings(capture=False)
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    logging.raiseExceptions = before[2]
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks


def read(stream: io.StringIO) -> list[dict[str, Any]]:
    """The objects of all lines."""
    text = stream.getvalue()
    assert text.endswith("\n")
    assert text.isascii()
    return [json.loads(line) for line in text.splitlines()]


def test_a_line_says_when_what_and_of_which_trace(lines: io.StringIO) -> None:
    """Ids lower-case hex at the top level, where log viewers look for them."""
    fields = {"decision": "deny", "seconds": 0.25, "labels": ("a", "b"), "level": "forged"}
    logging.getLogger("sidegate.calls").info("tool call", extra={"trace": PARENT, "fields": fields})
    logging.getLogger("sidegate").debug("not at this level")
    (line,) = read(lines)
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "info",
        "logger": "sidegate.calls",
        "message": "tool call",
        "trace_id": PARENT.trace_id,
        "span_id": PARENT.span_id,
        "trace_flags": "01",
        "decision": "deny",
        "seconds": 0.25,
        "labels": ["a", "b"],
    }


@pytest.mark.parametrize("text", ["a\nb", "\x1b[31mred", "\x9b31m", "\x7f", "\u2028", "\ud800", "Grüße", "\x00"])
def test_no_text_breaks_a_line_or_reaches_a_terminal(lines: io.StringIO, text: str) -> None:
    """Control characters are escaped, and come back as they were."""
    logging.getLogger("x").warning("%s", text, extra={"fields": {text: text}})
    (line,) = read(lines)
    assert (line["message"], line[text]) == (text, text)
    assert all(" " <= c <= "~" for c in lines.getvalue().removesuffix("\n"))


def test_an_exception_is_its_type_and_where_never_what_it_says(lines: io.StringIO) -> None:
    """Messages of exceptions hold values."""
    try:
        json.loads("{" + SECRET)
    except ValueError:
        logging.getLogger("x").exception("could not read it")
    (line,) = read(lines)
    assert line["exception"]["type"] == "JSONDecodeError"
    assert any(at.startswith(__file__) for at in line["exception"]["at"])
    assert SECRET not in lines.getvalue()


def test_what_json_does_not_have_is_named_by_its_type(lines: io.StringIO) -> None:
    """And a number that JSON cannot write costs the fields, not the line."""
    loop: dict[str, Any] = {}
    loop["loop"] = loop
    for odd in ({"o": object()}, {"n": float("nan"), "kept": "x"}, loop):
        logging.getLogger("x").info("odd", extra={"fields": odd})
    first, second, third = read(lines)
    assert first["o"] == "object"
    assert (second["message"], second["kept"], second["unwritable"]) == ("odd", "x", True)
    assert (third["message"], third["unwritable"]) == ("odd", True)


def test_a_broken_log_call_prints_no_arguments(lines: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    """The standard library would print them to stderr."""
    logging.getLogger("x").info("%d items", SECRET)
    (line,) = read(lines)
    assert line["message"] == "%d items"
    assert SECRET not in lines.getvalue() + "".join(capsys.readouterr())


def test_warnings_of_python_are_lines_too(lines: io.StringIO) -> None:
    """Nothing else may write to the stream."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        configure("info", lines)
        warnings.warn("old", stacklevel=1)
    assert read(lines)[0]["logger"] == "py.warnings"


def test_configuring_twice_writes_once(lines: io.StringIO) -> None:
    """The last stream has it."""
    stream = io.StringIO()
    configure("INFO", stream)
    logging.getLogger("x").info("once")
    assert lines.getvalue() == ""
    assert len(read(stream)) == 1


def test_an_unknown_level_is_refused() -> None:
    """With the names of those there are."""
    with pytest.raises(ValueError, match="debug, info"):
        configure("loud", sys.stderr)


def test_the_formatter_stands_alone() -> None:
    """For a handler of somebody else's."""
    record = logging.LogRecord("x", logging.ERROR, __file__, 1, "m", (), None)
    assert json.loads(JsonFormatter().format(record))["level"] == "error"


@pytest.mark.parametrize(
    "body",
    [
        "raise ValueError(secret)",
        "t = threading.Thread(target=lambda: int(secret)); t.start(); t.join()",
        "class Odd:\n    def __del__(self): raise ValueError(secret)\nOdd()",
        "async def f(): raise ValueError(secret)\nasync def main(): ensure_future(f()); await sleep(0)\nrun(main())",
        "async def main(): get_running_loop().call_soon(int, secret); await sleep(0)\nrun(main())",
    ],
    ids=["the process", "a thread", "a finalizer", "a task that nobody awaits", "a callback"],
)
def test_a_fault_that_nobody_caught_is_a_line_too(body: str) -> None:
    """With the type and the place, and without what the exception says."""
    script = f"""
import sys, threading
from asyncio import ensure_future, get_running_loop, run, sleep
from proxy.telemetry.logs import configure
configure("info", sys.stderr)
secret = {SECRET!r}
{body}
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False)
    told = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["exception"]["type"] for line in told] == ["ValueError"]
    assert SECRET not in done.stderr
