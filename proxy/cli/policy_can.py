"""`sidegate policy can`: what would become of a call that nobody has made yet."""

import argparse
import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from proxy.cli.common import FAILED, OK, USAGE, Failure, add_command, clean, emit, json_argument, say
from proxy.cli.policy_build import run
from proxy.cli.policy_explain import decided, decision_text
from proxy.cli.policy_given import given_policy, policy_arguments, settings_of

if TYPE_CHECKING:
    from proxy.core.tool import Catalog, CheckedCall, Tool
    from proxy.model import Agent, ToolCall

_ABOUT = """The call is made in a registered conversation through the agent that the settings name. Its arguments are checked
against the tool's schema first, as the sidecar does. Whose a record is cannot be known here: arguments that name records are
refused. Exit code 0 if it would be allowed, 1 if it would be denied, held or refused before policy is asked."""
_CONVERSATION = "-"
Json = dict[str, Any]


def add_parser(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the action."""
    parser = add_command(actions, "can", "whether a role may use a tool, by which rule, and with what instead", _ABOUT)
    parser.add_argument("tool", metavar="TOOL", help="its name in the catalog")
    parser.add_argument(
        "--role", action="append", metavar="ROLE", help="of the principal; again for more (default: unknown)"
    )
    parser.add_argument("--arguments", metavar="JSON", help="of the call (default: none, and none are checked)")
    parser.add_argument(
        "--after",
        action="append",
        metavar="TOOL",
        help="a tool that was used in the conversation before; again for more (default: the call is its first)",
    )
    policy_arguments(parser)
    json_argument(parser)
    parser.set_defaults(handler=can)


def can(args: argparse.Namespace) -> int:
    """Ask, and tell."""
    told = run(_asked(args), of_bundle=USAGE)
    if args.json:
        emit(told)
    else:
        for line in _text(told):
            say(clean(line))
    return OK if told.get("effect") == "allow" else FAILED


def _text(told: Json) -> list[str]:
    lines = [f"refused before policy is asked: {told['refused']}"] if "refused" in told else list(decision_text(told))
    return [*lines, f"  assumed    {told['assumed']}"]


async def _asked(args: argparse.Namespace) -> Json:
    from proxy.adapters.bundle_proof import serving
    from proxy.adapters.clock import SystemClock
    from proxy.adapters.policy_eval import rules
    from proxy.adapters.workshop import Workshop
    from proxy.errors import Refusal

    workshop, now = Workshop(settings_of(args)), SystemClock().now()
    catalog = await asyncio.to_thread(workshop.catalog)
    for name in (args.tool, *(args.after or ())):
        if name not in catalog.tools:
            raise Failure(f"there is no tool {name} in the catalog", exit_code=USAGE)
    assumed = {"assumed": _assumed(args)}
    call = _call(args)
    try:
        checked = _checked(call, catalog, now, given=args.arguments is not None)
    except Refusal as refusal:
        return {"refused": f"{refusal.code}: {refusal.message}", **assumed}
    earlier = [catalog.tools[name] for name in args.after or ()]
    document = _document(call, checked, args.role or ["unknown"], workshop.settings.agent, earlier, now)
    opa, policy = await given_policy(args)
    async with serving(opa, policy.files) as ask:
        return await decided(ask, policy, document, await rules(opa, policy, document)) | assumed


def _assumed(args: argparse.Namespace) -> str:
    before = f"in which {', '.join(args.after)} went well before" if args.after else "without earlier calls"
    more = "" if args.after else " (--after TOOL names some)"
    unchecked = "" if args.arguments is not None else "; no arguments were given, so none were checked"
    return f"a registered conversation {before}{more}, nobody's yes, now{unchecked}"


def _call(args: argparse.Namespace) -> "ToolCall":
    from proxy.core import strict_json
    from proxy.errors import Refusal
    from proxy.model import Arguments, Dialect, ToolCall

    text = (args.arguments or "{}").encode(errors="replace")
    try:
        tree = strict_json.read_tree(text, "value of --arguments")
    except Refusal as refusal:
        raise Failure(refusal.message, exit_code=USAGE) from None
    if not isinstance(tree, dict):
        raise Failure("--arguments: a JSON object is wanted", exit_code=USAGE)
    raw = strict_json.write(tree)
    arguments = Arguments(raw=raw, tree=tree, value=strict_json.read_values(raw))
    return ToolCall(id="-", tool=args.tool, arguments=arguments, dialect=Dialect.NATIVE)


def _checked(call: "ToolCall", catalog: "Catalog", now: datetime, *, given: bool) -> "CheckedCall":
    """As the sidecar checks a call, where arguments were given. Raises Refusal."""
    from proxy.core.check import check
    from proxy.core.tool import CheckedCall, Snapshot

    if given:
        return check(call, Snapshot(catalog=catalog, policy_revision=""), today=now.date(), key=bytes(32))
    tool = catalog.tools[call.tool]
    version = tool.versions[0]
    return CheckedCall(tool=tool, version=version, asked=version.version, arguments=call.arguments, digest="0" * 64)


def _document(
    call: "ToolCall",
    checked: "CheckedCall",
    roles: list[str],
    agent: Mapping[str, str | None],
    earlier: list["Tool"],
    now: datetime,
) -> bytes:
    """OPA's input for the call, made as the sidecar makes it."""
    from proxy.core.policy_input import decision_input, masked_arguments
    from proxy.core.supposed import used_before
    from proxy.model import Caller, Facts, Principal, Registration

    caller = Caller(
        agent=_agent(agent),
        principal=Principal(issuer="(none)", subject="(nobody)", tenant="unknown", roles=tuple(roles)),
        conversation=_CONVERSATION,
        registration=Registration.CLAIMED,
    )
    facts = Facts(seq=len(earlier) + 1, history=used_before(earlier))
    arguments = masked_arguments(checked, bytes(32))
    return decision_input(call, "-", checked, caller, facts, arguments=arguments, approval=None, now=now)


def _agent(given: Mapping[str, str | None]) -> "Agent":
    from proxy.model import Agent

    return Agent(**{key: given.get(key) for key in ("namespace", "service_account", "pod", "spiffe_id")})
