"""Catalog entries on their way into the catalog: what was declared, and where, so that every problem can say it."""

from dataclasses import dataclass, field
from typing import Any


class CatalogError(ValueError):
    """A catalog that cannot be used. `problems` are sentences, each with file and JSON pointer."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Entry:
    """One declaration, or a part of it."""

    file: str
    path: str
    data: Any

    def sub(self, *steps: str | int) -> "Entry":
        """A part of it; a step that is not there keeps its place in the path."""
        data, path = self.data, self.path
        for step in steps:
            there = isinstance(data, list | dict) and (isinstance(step, int) or step in data)
            data = data[step] if there else None
            path += "/" + str(step).replace("~", "~0").replace("/", "~1")
        return Entry(self.file, path, data)

    def says(self, problem: str) -> str:
        """The sentence with its place in front."""
        return f"{self.file}: {self.path}: {problem}"


@dataclass(frozen=True, slots=True)
class Parts:
    """All declarations of all files by name."""

    systems: dict[str, Entry] = field(default_factory=dict)
    upstreams: dict[str, Entry] = field(default_factory=dict)
    resources: dict[str, Entry] = field(default_factory=dict)
    tools: dict[str, Entry] = field(default_factory=dict)

    def content(self) -> dict[str, dict[str, Any]]:
        """What was declared, whatever file it stood in and in whatever order: what the revision is taken of."""
        return {
            kind: {name: entry.data for name, entry in getattr(self, kind).items()}
            for kind in ("systems", "upstreams", "resources", "tools")
        }
