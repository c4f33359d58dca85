"""Strict YAML files. Only JSON types come out, resolved by the core schema of YAML 1.2.2 (section 10.3.2).

So `yes`, `no`, `on` and `off` are text, and so is a date: `2027-03-01` stays the string "2027-03-01", whoever needs a date
parses it. What two readers could take for two things is an error: a key twice, a key that is not text, a number with a leading
zero, a tag, a merge key, a second document. Aliases work; what they repeat counts against the size limit.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import yaml

MAX_BYTES = 4 << 20
MAX_NODES = 200_000
MAX_DEPTH = 64
_MAX_DIGITS = 300

_NULL = {"", "~", "null", "Null", "NULL"}
_BOOLEAN = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_DECIMAL = re.compile(r"[-+]?[0-9]+\Z")
_BASED = re.compile(r"0o[0-7]+\Z|0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_SURROGATE = re.compile("[\ud800-\udfff]")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)\Z|\.(nan|NaN|NAN)\Z")


class YamlError(ValueError):
    """Files that cannot be read. `problems` are sentences, each with `file:line:column:` in front."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def load_yaml(path: Path) -> object:
    """The one document of a file. Raises YamlError."""
    return parse_yaml(read_bytes(path), path.name)


def load_directory(path: Path) -> list[tuple[str, object]]:
    """`(file name, document)` of each `*.yaml` and `*.yml` directly in a directory, by name. Raises YamlError with the
    problems of all files."""
    return parse_files(read_directory(path))


def read_directory(path: Path) -> list[tuple[str, bytes]]:
    """The bytes of each YAML file directly in a directory, by name. Hidden entries are skipped: of a mounted ConfigMap only
    the links at the top count, not the `..data` folder they lead to, so no file counts twice. Raises YamlError."""
    try:
        names = sorted(e.name for e in path.iterdir() if e.suffix in (".yaml", ".yml") and not e.name.startswith("."))
    except OSError as e:
        raise YamlError([f"{path.name}: cannot be read: {e.strerror}"]) from None
    return [(name, read_bytes(path / name)) for name in names]


def parse_files(files: list[tuple[str, bytes]]) -> list[tuple[str, object]]:
    """Parse what `read_directory` read. Raises YamlError with the problems of all files."""
    documents: list[tuple[str, object]] = []
    problems: list[str] = []
    for name, text in files:
        try:
            documents.append((name, parse_yaml(text, name)))
        except YamlError as e:
            problems += e.problems
    if problems:
        raise YamlError(problems)
    return documents


def read_bytes(path: Path) -> bytes:
    """A regular file of bounded size. Raises YamlError."""
    try:
        if not path.is_file():
            raise YamlError([f"{path.name}: is not a file"])
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as e:
        raise YamlError([f"{path.name}: cannot be read: {e.strerror}"]) from None
    if len(text) > MAX_BYTES:
        raise YamlError([f"{path.name}: is larger than {MAX_BYTES} bytes"])
    return text


def parse_yaml(text: bytes, name: str, *, loader: Any = None) -> object:
    """The one document of a text; `name` stands in its errors. `loader`: PyYAML's, by default the faster that is there. Raises
    YamlError."""
    try:
        decoded = text.decode()
    except UnicodeDecodeError as e:
        line = text.count(b"\n", 0, e.start) + 1
        column = e.start - text.rfind(b"\n", 0, e.start)
        raise YamlError([f"{name}:{line}:{column}: is not UTF-8"]) from None
    try:
        return _Reader(decoded, name, loader or _LOADER).document()
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        where = f"{mark.line + 1}:{mark.column + 1}" if mark else "1:1"
        raise YamlError([f"{name}:{where}: {e.problem or e.context or 'is not YAML'}"]) from None
    except yaml.reader.ReaderError as e:
        line = decoded.count("\n", 0, e.position) + 1
        column = e.position - decoded.rfind("\n", 0, e.position)
        raise YamlError([f"{name}:{line}:{column}: {e.reason}"]) from None


class _Reader:
    """Builds one document from parser events, so that nothing of YAML 1.1's resolver takes part."""

    def __init__(self, text: str, name: str, loader: Any) -> None:
        self._events: Iterator[Any] = iter(yaml.parse(text, Loader=loader))
        self._name = name
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._nodes = 0

    def document(self) -> object:
        next(self._events)  # the stream starts
        start = next(self._events)
        if isinstance(start, yaml.StreamEndEvent):
            self._fail(start, "the file is empty")
        value = self._node(next(self._events), 0)
        next(self._events)  # the document ends
        rest = next(self._events)
        if not isinstance(rest, yaml.StreamEndEvent):
            self._fail(rest, "a second document; one file holds one")
        return value

    def _node(self, event: Any, depth: int) -> Any:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        if event.tag is not None:
            self._fail(event, f"the tag {event.tag[:60]} is not supported; quote what is text")
        if depth > MAX_DEPTH:
            self._fail(event, f"nested deeper than {MAX_DEPTH} levels")
        before = self._nodes
        self._count(event, 1)
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self._sequence(depth)
        else:
            value = self._mapping(depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, self._nodes - before)
        return value

    def _sequence(self, depth: int) -> list[Any]:
        items = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, depth + 1))
        return items

    def _mapping(self, depth: int) -> dict[str, Any]:
        tree: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._node(event, depth + 1) if isinstance(event, yaml.ScalarEvent | yaml.AliasEvent) else None
            if not isinstance(key, str):
                self._fail(event, "a key must be text; quote it")
            if key == "<<":
                self._fail(event, "merge keys (<<) are not supported")
            if key in tree:
                self._fail(event, f"the key '{key[:60]}' occurs twice")
            tree[key] = self._node(next(self._events), depth + 1)
        return tree

    def _alias(self, event: Any) -> Any:
        # libyaml does not check that the anchor is there, nor that it is complete: `&a [*a]` would hold itself.
        if event.anchor not in self._anchors:
            self._fail(event, f"the alias *{event.anchor[:60]} has no anchor before it")
        value, nodes = self._anchors[event.anchor]
        self._count(event, nodes)
        return value

    def _count(self, event: Any, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            self._fail(event, f"more than {MAX_NODES} values, aliases counted as what they repeat")

    def _scalar(self, event: Any) -> Any:
        text: str = event.value
        if _SURROGATE.search(text):  # PyYAML's own parser takes the escape `\uD800`, libyaml does not
            self._fail(event, "half of a surrogate pair is no character")
        if not event.implicit[0]:
            return text
        if text in _NULL:
            return None
        if text in _BOOLEAN:
            return _BOOLEAN[text]
        if _DECIMAL.match(text) or _BASED.match(text) or _FLOAT.match(text):
            return self._number(event, text)
        if _NOT_FINITE.match(text):
            self._fail(event, "infinity and not-a-number are no JSON numbers")
        return text

    def _number(self, event: Any, text: str) -> int | float:
        digits = text.lstrip("-+")
        if len(digits) > _MAX_DIGITS:
            self._fail(event, "a number is too long")
        if _BASED.match(text):
            return int(text, 0)
        if digits[0] == "0" and digits[1:2].isdecimal():
            self._fail(event, "a number with a leading zero; quote it, or write 0o for octal")
        if _DECIMAL.match(text):
            return int(text)
        if not math.isfinite(value := float(text)):
            self._fail(event, "a number out of range")
        return value

    def _fail(self, event: Any, why: str) -> NoReturn:
        mark = event.start_mark
        raise YamlError([f"{self._name}:{mark.line + 1}:{mark.column + 1}: {why}"])


# libyaml's parser where PyYAML was built with it: ten times faster, the same events.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
