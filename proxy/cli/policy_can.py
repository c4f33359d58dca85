"""`sidegate policy can`: what policy says of a call that nobody has made yet."""

import argparse
import asyncio
from typing import TYPE_CHECKING, Any

from proxy.cli.common import FAILED, OK, USAGE, Failure, add_command, clean, emit, json_argument, say
from proxy.cli.policy_build import run
from proxy.cli.policy_explain import decided, decision_text
from proxy.cli.policy_given import given_policy, policy_arguments, settings_of

if TYPE_CHECKING:
    from proxy.core.tool import Tool

_ABOUT = """The call is the first of a new conversation, made through the agent that the settings name. Whose a record is
cannot be known here: arguments that name records are refused. Exit code 0 if it is allowed, 1 if it is denied or held."""
Json = dict[str, Any]


def add_parser(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the action."""
    parser = add_command(actions, "can", "whether a role may use a tool, by which rule, and with what instead", _ABOUT)
    parser.add_argument("tool", metavar="TOOL", help="its name in the catalog")
    parser.add_argument(
        "--role", action="append", metavar="ROLE", help="of the principal; again for more (default: unknown)"
    )
    parser.add_argument("--arguments", default="{}", metavar="JSON", help="of the call (default: none)")
    policy_arguments(parser)
    json_argument(parser)
    parser.set_defaults(handler=can)


def can(args: argparse.Namespace) -> int:
    """Ask, and tell."""
    told = run(_asked(args))
    if args.json:
        emit(told)
    else:
        for line in decision_text(told):
            say(clean(line))
    return OK if told.get("effect") == "allow" else FAILED


async def _asked(args: argparse.Namespace) -> Json:
    from proxy.adapters.bundle_proof import serving
    from proxy.adapters.policy_eval import rules
    from proxy.adapters.workshop import Workshop

    workshop = Workshop(settings_of(args))
    tools = (await asyncio.to_thread(workshop.catalog)).tools
    if args.tool not in tools:
        raise Failure(f"there is no tool {args.tool} in the catalog", exit_code=USAGE)
    document = _document(args, tools[args.tool], dict(workshop.settings.agent))
    opa, policy = await given_policy(args)
    async with serving(opa, policy.files) as ask:
        return await decided(ask, policy, document, await rules(opa, policy, document))


def _document(args: argparse.Namespace, tool: "Tool", agent: Json) -> bytes:
    """OPA's input for the call; see rego/schemas/input.json."""
    import orjson

    from proxy.adapters.clock import SystemClock
    from proxy.core import strict_json
    from proxy.core.grounds import FRESH
    from proxy.core.policy_input import timestamp
    from proxy.errors import Refusal

    try:
        arguments = strict_json.read_tree(args.arguments.encode(errors="replace"), "value of --arguments")
    except Refusal as refusal:
        raise Failure(refusal.message, exit_code=USAGE) from None
    if not isinstance(arguments, dict):
        raise Failure("--arguments: a JSON object is wanted", exit_code=USAGE)
    now = timestamp(SystemClock().now())
    version = tool.versions[0].version
    call = {"id": "-", "tool": tool.name, "version": version, "dialect": "native", "arguments": arguments}
    principal = {
        "id": "(nobody)",
        "issuer": "(none)",
        "name": None,
        "tenant": "unknown",
        "roles": args.role or ["unknown"],
    }
    return orjson.dumps(
        {
            "call": {**call, "inputs": {}, "digest": "0" * 64, "received_at": now},
            "tool": orjson.Fragment(tool.facts),
            "agent": {key: agent.get(key) for key in ("namespace", "service_account", "pod", "spiffe_id")},
            "principal": {**principal, "attributes": {}, "authenticated_at": None, "counters": {}},
            "conversation": {"id": "-", "registration": "claimed", "profile": None, **FRESH},
            "resources": [],
            "grounding": {},
            "approval": None,
            "environment": {"now": now, "mode": "enforce"},
        }
    )
