"""Lines as log shippers deliver them: wrapped, cut into parts, and mixed with other lines. Pure.

Known wrappings: CRI (`TIME stdout F TEXT`, parts marked P), Docker's json-file (`{"log": TEXT}`, a part has no newline at its
end), and JSON of shippers with the text under log, message, msg or line. A prefix before a record is left to the reader.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import orjson

from proxy.core.chain import stated_hash

_RECORD = b'{"seq":'  # how each line of the journal begins
_BEGINNING = re.compile(rb'\{"seq":\d{1,18},"at":"')
MAX_TEXT = 16 * 1024 * 1024  # bytes of one text in parts; more is no record

_CRI = re.compile(rb"\d{4}-\d\d-\d\dT\S+ (stdout|stderr) ([PF])(?::\S*)? (.*)", re.DOTALL)
_KEYS = ("log", "message", "msg", "line")
_ORIGINS = ("stream", "kubernetes", "container_id", "container_name")


@dataclass(frozen=True, slots=True)
class _Piece:
    """Some text of one origin, and whether a line ends with it."""

    origin: bytes
    text: bytes
    ends: bool


def unwrapped(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The lines that were shipped, parts joined by origin; what is not wrapped stays as it is."""
    parts: dict[bytes, bytearray] = {}
    for line in lines:
        piece = None if line.startswith(_RECORD) else _cri(line) or _json(line)
        if piece is None:
            yield line
            continue
        text = parts.setdefault(piece.origin, bytearray())
        text += piece.text
        if piece.ends or len(text) > MAX_TEXT:
            yield bytes(parts.pop(piece.origin)).rstrip(b"\r\n") + b"\n"
    yield from (bytes(text) for text in parts.values() if text)


def beginnings(line: bytes) -> list[int]:
    """Where records begin in a line, whatever a log viewer has put before them; empty if it holds none."""
    first = [0] if line.startswith(_RECORD) else []
    return first + [found.start() for found in _BEGINNING.finditer(line) if found.start() > 0]


def _cri(line: bytes) -> _Piece | None:
    found = _CRI.fullmatch(line)
    return None if found is None else _Piece(found[1], found[3].rstrip(b"\r\n"), found[2] == b"F")


def _json(line: bytes) -> _Piece | None:
    if not line.lstrip().startswith(b"{"):
        return None
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(document, dict) or "logger" in document:  # our own log: its message is text of others
        return None
    text = next((document[key] for key in _KEYS if isinstance(document.get(key), str)), None)
    if text is None:
        return None
    content = text.encode(errors="replace")
    tag = document.get("logtag")
    ends = tag == "F" if tag in ("F", "P") else text.endswith("\n") or _is_record(content) or "log" not in document
    return _Piece(orjson.dumps([document.get(key) for key in _ORIGINS]), content.rstrip(b"\r\n"), ends)


def _is_record(content: bytes) -> bool:
    return stated_hash(content + b"\n") is not None
