"""Stop switches: what they are called, and which one stands in the way (design section 8)."""

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Any

from proxy.core.policy_input import timestamp
from proxy.core.tool import CheckedCall
from proxy.errors import Code, Refusal
from proxy.model import Caller

SCOPES = frozenset({"all", "conversation", "principal", "agent", "tool", "system"})


def stop_record(switch: Mapping[str, Any], *, standing: bool, at: datetime) -> dict[str, Any]:
    """The record that throws or lifts {"scope", "name", "by"?}. Raises Refusal invalid_call."""
    scope, name = switch.get("scope"), switch.get("name")
    if scope not in SCOPES or (scope != "all" and not (isinstance(name, str) and name)):
        raise Refusal(Code.INVALID_CALL, f"a switch has a scope ({', '.join(sorted(SCOPES))}) and a name")
    name = "" if scope == "all" else name
    record = {"kind": "stop", "scope": scope, "name": name, "standing": standing, "by": switch.get("by")}
    return record | {"since": timestamp(at)}


def switched(switches: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """All switches that stand after a stop record, by `scope name`. One that is thrown again stands since it was thrown first."""
    name = f"{record['scope']} {record['name']}"
    others = {other: switch for other, switch in switches.items() if other != name}
    if not record["standing"]:
        return others
    since = record.get("since", record.get("at"))  # older records have the time of writing only
    thrown = {"scope": record["scope"], "name": record["name"], "by": record["by"], "since": since}
    return others | {name: switches.get(name, thrown)}


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
