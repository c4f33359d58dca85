"""`sidegate policy explain`: from a recorded call to the rules that decided it, over shipped logs."""

import argparse
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from proxy.cli.common import FAILED, OK, USAGE, Failure, add_command, clean, emit, json_argument, say
from proxy.cli.journal_input import PLACE, lines, reading, source_arguments
from proxy.cli.policy_build import run
from proxy.cli.policy_given import given_policy, policy_arguments, read

if TYPE_CHECKING:
    from proxy.adapters.bundle_proof import Ask
    from proxy.adapters.policy_eval import Loaded
    from proxy.core.opa_trace import Fired
    from proxy.core.recorded import Judged

_ABOUT = f"""Asks OPA again what it was asked then: with the policy that the settings in the current directory name, or the
one given. A call that not policy ended is told apart, with who did.
{PLACE}
Exit code 1 if there is no such call, if its records are not complete, or if OPA decides otherwise today."""
_RANK = {"deny": 0, "review": 1, "allow": 2}
_MEANS = {"allow": "allowed", "review": "held for a person", "deny": "denied"}
Json = Mapping[str, Any]


def add_parser(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the action."""
    parser = add_command(actions, "explain", "which rules decided a recorded call, and what would have", _ABOUT)
    parser.add_argument("name", metavar="CALL_ID|TRACE_ID|REVIEW", help="of the call, its trace or its review")
    source_arguments(parser)
    policy_arguments(parser)
    json_argument(parser)
    parser.set_defaults(handler=reading(explain))


def explain(args: argparse.Namespace) -> int:
    """Explain each decision that the name stands for."""
    from proxy.core.recorded import Recorded

    recorded = Recorded(lambda record: args.name in (record.get("call"), record.get("trace"), record.get("review")))
    for line in lines(args):
        recorded.take(line)
    found = list(recorded.judged())
    if not found:
        raise Failure(f"no decision about {args.name} is among the records; `sidegate audit find` looks for calls")
    told = run(_explained(args, found), of_bundle=USAGE)
    if args.json:
        emit(told)
    else:
        say("\n\n".join("\n".join(map(clean, text(each))) for each in told))
    return OK if all(each["agrees"] is not False and each["gap"] in ("", _not_asked()) for each in told) else FAILED


async def _explained(args: argparse.Namespace, found: list["Judged"]) -> list[dict[str, Any]]:
    from proxy.adapters.bundle_proof import serving
    from proxy.adapters.policy_eval import rules

    if all(each.document is None for each in found):
        return [about(each) for each in found]
    opa, policy = await given_policy(args)
    told = []
    async with serving(opa, policy.files) as ask:
        for each in found:
            if each.document is None:
                told.append(about(each))
                continue
            told.append(about(each) | await _again(ask, policy, each, await rules(opa, policy, each.document)))
    return told


def about(judged: "Judged") -> dict[str, Any]:
    """What the records themselves say."""
    from proxy.core.story_end import ended_by

    record = judged.record
    refusal = record.get("refusal") or {}
    return {
        "call": record["call"],
        "at": record.get("at"),
        "tool": record.get("tool") or record.get("asked_tool"),
        "principal": (record.get("principal") or {}).get("name") or (record.get("principal") or {}).get("id"),
        "conversation": record.get("conversation"),
        "trace": record.get("trace"),
        "recorded": {
            "effect": judged.effect or None,
            "code": record.get("code"),
            "message": refusal.get("message"),
            "reasons": sorted(f"{policy}.{code}" for policy, code in judged.codes),
            "revision": (record.get("decision") or {}).get("policy"),
        },
        "ended": ended_by(judged.code),
        "gap": judged.gap,
        "agrees": None,
    }


async def _again(ask: "Ask", policy: "Loaded", judged: "Judged", found: list["Fired"]) -> dict[str, Any]:
    """What OPA says today, and whether that is what was decided."""
    told = await decided(ask, policy, judged.document or b"{}", found)
    if "fault" in told:
        return told | {"agrees": False}
    said = frozenset((each["policy"], each["code"]) for each in told["reasons"] if not each["noted"])
    return told | {"agrees": (told["effect"], said) == (judged.effect, judged.codes) if judged.effect else None}


async def decided(ask: "Ask", policy: "Loaded", document: bytes, found: list["Fired"]) -> dict[str, Any]:
    """The decision about an input, rule by rule, and what would have been decided otherwise."""
    import orjson

    from proxy.core import grounds, strict_json

    decision = await ask(orjson.Fragment(document))
    strict = read(decision)
    if isinstance(strict, str):
        return {"policy": policy.name, "revision": policy.revision, "fault": strict[:1000]}
    effect, values = str(strict.effect), strict_json.read_values(document)
    otherwise: dict[str, list[str]] = {}
    for what, changed in grounds.alternatives(decision, values, policy.document) if effect != "allow" else ():
        answer = await ask(changed)
        better = str(answer.get("effect")) if isinstance(answer, Mapping) else effect
        if _RANK.get(better, 0) > _RANK[effect]:
            otherwise.setdefault(_MEANS[better], []).append(what)
    return {
        "policy": policy.name,
        "revision": policy.revision,
        "effect": effect,
        "guards": {name: grounds.guard(name) for name in decision["guards"]},
        "reasons": list(_reasons(decision, values, policy, found)),
        "otherwise": otherwise,
    }


def _reasons(decision: Json, document: Json, policy: "Loaded", found: list["Fired"]) -> Iterator[dict[str, Any]]:
    from proxy.core import grounds

    noted = {name: dict(said) for name, said in decision["warn"].items()}
    for says in ("deny", "review", "allow"):
        for name, said in decision[says].items():
            yield from (_reason(says, name, reason, document, policy, found, noted=False) for reason in said)
    for name, kinds in noted.items():
        for says, said in kinds.items():
            yield from (_reason(says, name, reason, document, policy, found, noted=True) for reason in said)
    if decision["effect"] == "deny" and not decision["deny"] and not decision["guards"]:
        yield {
            "effect": "deny",
            "policy": "decision",
            "code": "not_granted",
            "noted": False,
            "message": "no grant covers this call, and what nobody is granted is refused",
            "fix": grounds.granting(document, policy.document, policy.name),
            "title": "Nothing without a grant",
            "rule": None,
            "settings": grounds.not_granted(document, policy.document),
        }


def _reason(
    says: str, name: str, reason: Any, document: Json, policy: "Loaded", found: list["Fired"], *, noted: bool
) -> dict[str, Any]:
    from proxy.core import grounds

    rule = next((each for each in found if (each.policy, each.says, each.reason) == (name, says, reason)), None)
    said = reason if isinstance(reason, Mapping) else {"code": "(a reason without a code)"}
    place = None
    if rule is not None:
        place = f"{policy.authors.get(rule.member, rule.member)}:{rule.row}"
    return {
        "effect": says,
        "policy": name,
        "code": said.get("code"),
        "noted": noted,
        "message": said.get("message"),
        "fix": said.get("fix"),
        "title": rule.title if rule is not None else "",
        "rule": place,
        "settings": grounds.entries(name, said, document, policy.document),
    }


def text(told: Json) -> Iterator[str]:
    """One explanation for people."""
    recorded = told["recorded"]
    tool, who = told["tool"] or "no tool that could be read", told["principal"] or "nobody known"
    yield f"call {told['call']}: {tool} for {who} at {told['at']}"
    what = _MEANS.get(recorded["effect"], f"refused: {recorded['code']}")
    why = f": {', '.join(recorded['reasons'])}" if recorded["reasons"] else ""
    yield f"  recorded   {what}{why}" + (f", by revision {recorded['revision'][:12]}" if recorded["revision"] else "")
    if recorded["message"]:
        yield f"  refusal    {recorded['message']}"
    if told["ended"]:
        yield f"  ended      {told['ended']}"
    if told["gap"]:
        more = "" if told["gap"] == _not_asked() else "not replayable: "
        yield f"  policy     {more}{told['gap']}"
        return
    yield f"  today      {_today(told)}"
    if recorded["revision"] not in (None, told["revision"]):
        yield (
            f"  changed    policy or catalog has changed since: below is what {told['policy']} says now. For the rules of then "
            "give --bundle with the one of that revision, or --policy and --rego from the sources of that day"
        )
    if "fault" not in told:
        yield from _why(told)


def decision_text(told: Json) -> Iterator[str]:
    """A decision of `decided` for people."""
    if "fault" in told:
        yield f"OPA fails: {told['fault']}"
        return
    yield f"{_MEANS[told['effect']]} by revision {told['revision'][:12]}"
    yield from _why(told)


def _why(told: Json) -> Iterator[str]:
    for name, means in told["guards"].items():
        yield f"  guard      {name}: {means}; every such call is denied"
    for reason in told["reasons"]:
        yield from _reason_text(reason)
    for better, changes in told["otherwise"].items():
        yield f"  would be {better}: {'; '.join(changes)}"


def _today(told: Json) -> str:
    same = told["revision"] == told["recorded"]["revision"]
    by = "the same revision" if same else f"ANOTHER revision, {told['revision'][:12]}"
    if "fault" in told:
        return f"OPA fails by {by}: {told['fault']}"
    agreed = {True: "as recorded", False: "NOT as recorded", None: "no decision was recorded"}[told["agrees"]]
    return f"{_MEANS[told['effect']]} by {by}: {agreed}"


def _reason_text(reason: Json) -> Iterator[str]:
    noted = " (a note: not enforced)" if reason["noted"] else ""
    yield f"  {reason['effect']:<9}  {reason['policy']}.{reason['code']}{noted}"
    facts = (("says", reason["message"]), ("fix", reason["fix"]), ("rule", _rule(reason)))
    yield from (f"             {name:<8} {value}" for name, value in facts if value)
    yield from (f"             {'settings':<8} {entry}" for entry in reason["settings"])


def _rule(reason: Json) -> str:
    if reason["rule"] is None:
        return str(reason["title"])
    return f"{reason['rule']}" + (f" ({reason['title']})" if reason["title"] else "")


def _not_asked() -> str:
    from proxy.core.recorded import NOT_ASKED

    return NOT_ASKED
