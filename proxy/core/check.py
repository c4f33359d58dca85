"""Steps 3 and 4 of a call: its tool and version are found, its arguments checked and brought to the newest form (design 4, 6).

A name is the tool's or it is unknown: no case is folded, nothing trimmed, nothing close is run or suggested.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from proxy.core.digest import call_digest
from proxy.core.schema_shape import printable
from proxy.core.strict_json import read_tree, read_values, write
from proxy.core.tool import CheckedCall, Snapshot, Tool, ToolVersion
from proxy.errors import Code, Refusal
from proxy.model import Arguments, ToolCall

Problems = Sequence[tuple[str, str]]


def check(call: ToolCall, snapshot: Snapshot, *, today: date, key: bytes) -> CheckedCall:
    """The call against its tool. Raises Refusal unknown_tool, tool_quarantined, unsupported_version, or invalid_arguments
    with every fault: JSON pointer, what was wanted, the type that came. `key` is the secret of digests."""
    tool = snapshot.catalog.tools.get(call.tool)
    if tool is None:
        raise Refusal(
            Code.UNKNOWN_TOOL,
            f"there is no tool '{printable(call.tool)}'",
            fix="use one of the tools that you were given, by its exact name",
        )
    supported = _supported(tool, today)
    if tool.quarantined is not None:
        raise _quarantined(tool)
    found = _version(call, tool, supported)
    newest = tool.versions[0]
    arguments, changes = call.arguments, tuple[str, ...]()
    if found is not newest:
        arguments, changes = _upgrade(call.arguments, tool, found)
    return CheckedCall(
        tool=tool,
        version=newest,
        asked=found.version,
        arguments=arguments,
        digest=call_digest(tool.name, arguments.tree, key),
        changes=changes,
    )


def _supported(tool: Tool, today: date) -> list[ToolVersion]:
    supported = [v for v in tool.versions if v.supported_until is None or v.supported_until >= today]
    if not supported:
        raise Refusal(
            Code.UNSUPPORTED_VERSION,
            f"the tool {tool.name} has been retired: it was supported until {tool.versions[0].supported_until}",
            details={"retired": str(tool.versions[0].supported_until)},
            fix=f"do without it{_ask(tool)}",
        )
    return supported


def _quarantined(tool: Tool) -> Refusal:
    return Refusal(
        Code.TOOL_QUARANTINED,
        f"the tool {tool.name} is set aside until its description has been repaired",
        fix=f"do without it{_ask(tool)}",
        details={"quarantined": tool.quarantined},
    )


def _ask(tool: Tool) -> str:
    return f", or ask its owner, {tool.upstream.owner}" if tool.upstream.owner else ""


def _version(call: ToolCall, tool: Tool, supported: list[ToolVersion]) -> ToolVersion:
    """The version asked for, else the newest, else the one older that takes these arguments. More than one is none: they
    could mean different things by the same arguments."""
    if call.version is not None:
        asked = next((v for v in supported if v.version == call.version), None)
        if asked is None:
            raise _unsupported(call.version, tool, supported)
        _refuse_faults(tool, asked.version, asked.arguments.problems(call.arguments.value))
        return asked
    newest = tool.versions[0]
    problems = newest.arguments.problems(call.arguments.value)
    if not problems:
        return newest
    fitting = [v for v in supported if v is not newest and not v.arguments.problems(call.arguments.value)]
    if len(fitting) != 1:
        _refuse_faults(tool, newest.version, problems)
    return fitting[0]


def _unsupported(asked: str, tool: Tool, supported: list[ToolVersion]) -> Refusal:
    listed = ", ".join(
        f"{v.version} (until {v.supported_until})" if v.supported_until else v.version for v in supported
    )
    return Refusal(
        Code.UNSUPPORTED_VERSION,
        f"version '{printable(asked)}' of {tool.name} is not supported; supported: {listed}",
        fix=f"use version {supported[0].version}, or leave the version out",
        details={"asked": printable(asked)},
    )


def _refuse_faults(tool: Tool, version: str, problems: Problems, *, upgraded: str = "") -> None:
    if not problems:
        return
    listed = "; ".join(f"{where}: {what}" if where else what for where, what in problems)
    how = f", brought to version {upgraded}," if upgraded else ""
    raise Refusal(
        Code.INVALID_ARGUMENTS,
        f"the arguments of {tool.name} (version {version}){how} are not valid: {listed}",
        fix="change what is named here and call again",
        details={"problems": [{"at": where, "problem": what} for where, what in problems]},
    )


def _upgrade(arguments: Arguments, tool: Tool, old: ToolVersion) -> tuple[Arguments, tuple[str, ...]]:
    """The arguments in the newest version's form, and what was changed. Raises Refusal invalid_arguments."""
    newest = tool.versions[0]
    tree, changes = _mapped(arguments.tree, old)
    if tree is None:
        _refuse_faults(tool, old.version, [("", f"two arguments become one in version {newest.version}")])
    raw = write(tree)
    upgraded = Arguments(raw=raw, tree=read_tree(raw, "arguments"), value=read_values(raw))
    problems = newest.arguments.problems(upgraded.value)
    _refuse_faults(tool, old.version, problems, upgraded=newest.version)
    return upgraded, changes


def _mapped(tree: Mapping[str, Any], old: ToolVersion) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    """Renamed first, then dropped, then defaults set; None if a renamed argument meets one of its new name."""
    if old.upgrade is None:
        return dict(tree), ()
    rename, drop, default = old.upgrade.rename, old.upgrade.drop, old.upgrade.default
    mapped = {rename.get(name, name): value for name, value in tree.items()}
    if len(mapped) != len(tree):
        return None, ()
    changes = [f"renamed {name} to {rename[name]}" for name in tree if name in rename]
    for name in drop:
        if name in mapped:
            del mapped[name]
            changes.append(f"dropped {name}")
    for name, value in default.items():
        if name not in mapped:
            mapped[name] = read_tree(json.dumps(value).encode(), "default")
            changes.append(f"set {name} to its default")
    return mapped, tuple(changes)
