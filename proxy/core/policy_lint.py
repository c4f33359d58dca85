"""What a policy file may look like, over the syntax tree that `opa parse` prints. Each rule keeps a deny from being lost."""

from collections.abc import Iterator, Mapping
from typing import Any

EXPORTS = frozenset({"allow", "deny", "review", "warn", "obligations", "visible"})
_SPEAKS = frozenset({"deny", "review"})


def lint(module: Mapping[str, Any], *, file: str, package: str, policy: bool = True) -> list[str]:
    """Problems as `file:row: sentence`. `module` is the JSON tree with locations, `package` the folder as a dotted name.

    `policy` is False for Sidegate's own composer, which exports entry points of its own.
    """
    found = [*_about_package(module, package)]
    if policy:
        found += [problem for rule in module.get("rules", []) for problem in _about_rule(rule)]
        found += _foreign_data(module)
    return [f"{file}:{row}: {sentence}" for row, sentence in sorted(set(found))]


def _about_package(module: Mapping[str, Any], package: str) -> Iterator[tuple[int, str]]:
    row = _row(module["package"])
    name = ".".join(str(part["value"]) for part in module["package"]["path"][1:])
    if name != package:
        yield row, f"package {name} stands in the folder of {package}"
    imports = [_dotted(entry["path"]) for entry in module.get("imports", [])]
    if "rego.v2" not in imports:
        yield row, "import rego.v2 is missing: without it, most negations do not fire when a fact is absent"
    annotated = [note for note in module.get("annotations", []) if note.get("scope") == "package"]
    note = annotated[0] if annotated else {}
    yield from (
        (row, f"the package's METADATA has no {key}")
        for key in ("title", "description", "schemas")
        if not note.get(key)
    )


def _about_rule(rule: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    head, row = rule["head"], _row(rule)
    name = str(head["ref"][0]["value"])
    if name.startswith("_"):
        return
    if name not in EXPORTS:
        wanted = ", ".join(sorted(EXPORTS))
        yield row, f"{name} is no name that a policy exports ({wanted}); begin it with _ if it is private"
    elif "key" not in head or "value" in head or len(head["ref"]) > 1:
        yield row, f"{name} is not a set: write `{name} contains ... if ...`"
    if name in _SPEAKS and any(_dotted(ref).split(".")[0] == "input" for ref in _refs(head.get("key"), text=False)):
        yield row, f"{name} reads input in its head: an absent fact would lose it; use a template string"


def _foreign_data(module: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    refs = [ref for rule in module.get("rules", []) for ref in _refs(rule, text=True)]
    refs += [entry["path"] for entry in module.get("imports", [])]
    for ref in refs:
        name = _dotted(ref)
        if name.split(".")[0] == "data" and name.split(".")[1:3] != ["sidegate", "settings"]:
            yield _row(ref), f"{name} is not the policy's business: it reads input and data.sidegate.settings"


def _refs(tree: Any, *, text: bool) -> Iterator[Mapping[str, Any]]:
    """All references in a tree. `text`: also those inside template strings, where an absent value does no harm."""
    if isinstance(tree, list):
        for item in tree:
            yield from _refs(item, text=text)
    if not isinstance(tree, Mapping) or (tree.get("type") == "templatestring" and not text):
        return
    if tree.get("type") == "ref":
        yield tree
    for key, value in tree.items():
        if key != "location":
            yield from _refs(value, text=text)


def _dotted(ref: Mapping[str, Any]) -> str:
    """The constant beginning of a reference."""
    names: list[str] = []
    for index, part in enumerate(ref["value"]):
        if index and part["type"] != "string":
            break
        names.append(str(part["value"]))
    return ".".join(names)


def _row(tree: Mapping[str, Any]) -> int:
    return int(tree.get("location", {}).get("row", 0))
