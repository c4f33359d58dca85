"""Stop switches: what they are called, and which one stands in the way (design section 8)."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from proxy.core.tool import CheckedCall
from proxy.errors import Code, Refusal
from proxy.model import Caller

SCOPES = frozenset({"all", "conversation", "principal", "agent", "tool", "system"})


def stop_record(switch: Mapping[str, Any], *, standing: bool) -> dict[str, Any]:
    """The record that throws or lifts {"scope", "name", "by"?}. Raises Refusal invalid_call."""
    scope, name = switch.get("scope"), switch.get("name")
    if scope not in SCOPES or not (isinstance(name, str) or (scope == "all" and name is None)):
        raise Refusal(Code.INVALID_CALL, f"a stop names a scope ({', '.join(sorted(SCOPES))}) and a name")
    name = "" if scope == "all" else name
    return {"kind": "stop", "scope": scope, "name": name, "standing": standing, "by": switch.get("by")}


def switched(switches: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """All switches that stand after a stop record, by `scope name`."""
    name = f"{record['scope']} {record['name']}"
    others = {other: switch for other, switch in switches.items() if other != name}
    if not record["standing"]:
        return others
    return others | {name: {"scope": record["scope"], "name": record["name"], "by": record["by"]}}


def stopped_by(switches: Collection[str], caller: Caller, checked: CheckedCall | None) -> str | None:
    """The first of the standing switches (`scope name`) that stands in the way, as a sentence, widest first."""
    if not switches:
        return None
    for scope, name in _names(caller, checked):
        if f"{scope} {name}" in switches:
            return "all calls are stopped" if scope == "all" else f"calls of this {scope} are stopped"
    return None


def _names(caller: Caller, checked: CheckedCall | None) -> Iterator[tuple[str, str]]:
    yield "all", ""
    yield "conversation", caller.conversation
    yield "principal", caller.principal.id
    yield "principal", caller.principal.subject
    agent = caller.agent
    for name in (agent.spiffe_id, agent.pod, agent.service_account, f"{agent.namespace}/{agent.service_account}"):
        if name is not None:
            yield "agent", name
    if checked is not None:
        yield "tool", checked.tool.name
        yield "system", checked.tool.system.name
