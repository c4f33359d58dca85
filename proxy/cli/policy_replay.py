"""`sidegate policy replay`: what a changed policy would have decided about recorded calls."""

import argparse
import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxy.cli.common import FAILED, OK, USAGE, Failure, add_command, clean, emit, json_argument, say
from proxy.cli.journal_input import PLACE, condition_arguments, conditions, lines, reading, source_arguments
from proxy.cli.policy_build import run
from proxy.cli.policy_given import current_policy, given_policy, policy_arguments, read, said_codes

if TYPE_CHECKING:
    from proxy.adapters.bundle_proof import Ask
    from proxy.adapters.policy_eval import Loaded
    from proxy.core.recorded import Judged

RECORDED, CURRENT = "recorded", "current"
_ABOUT = f"""Asks OPA about each recorded decision again, with the policy that the settings name or the one given by --policy,
--rego or --bundle, and compares that with what was recorded, or with what another policy says (--against).
Each call is taken as it was: a call that the policy would have refused still counts in what came after it.
{PLACE}
Exit code 0 if nothing would be decided otherwise, 1 if something would, 64 if nothing could be compared."""
_EXAMPLES = 3
_FAULT = "fault"
_Said = tuple[str, frozenset[tuple[str, str]]]  # effect, and (policy, code) of each reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One call that would be decided otherwise; with one effect for another, or the same for other reasons."""

    before: str
    after: str
    judged: "Judged"
    codes_before: tuple[str, ...]
    codes: tuple[str, ...]

    @property
    def kind(self) -> str:
        """From what to what."""
        return f"{self.before} -> {self.after}" + (" for other reasons" if self.before == self.after else "")

    @property
    def facts(self) -> dict[str, Any]:
        """As an example."""
        record = self.judged.record
        return {
            "call": record["call"],
            "tool": record.get("tool"),
            "principal": (record.get("principal") or {}).get("id"),
            "before": list(self.codes_before),
            "after": list(self.codes),
        }


def add_parser(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the action."""
    parser = add_command(actions, "replay", "what a changed policy would have decided about recorded calls", _ABOUT)
    condition_arguments(parser)
    source_arguments(parser)
    policy_arguments(parser)
    parser.add_argument(
        "--against",
        default=RECORDED,
        metavar="WHAT",
        help="what the answers are compared with: `recorded` (the default), `current` (what the policy of the settings says "
        "of the same calls: so you see what your change does, and nothing else), or a built bundle's file",
    )
    json_argument(parser)
    parser.set_defaults(handler=reading(replay))


def replay(args: argparse.Namespace) -> int:
    """Count and show the differences."""
    from proxy.core.recorded import NOT_ASKED, Recorded

    if args.against == CURRENT and not (args.policy or args.rego or args.bundle):
        raise Failure(
            "--against current: name the changed policy by --policy, --rego or --bundle, else the settings' own would be "
            "compared with itself",
            exit_code=USAGE,
        )
    recorded = Recorded(conditions(args))
    for line in lines(args):
        recorded.take(line)
    found = [each for each in recorded.judged() if each.effect or each.gap != NOT_ASKED]
    whole = [each for each in found if each.document is not None and each.effect]
    if not whole:
        why = next((f": {each.gap}" for each in found if each.gap), "")
        raise Failure(f"no decision that could be replayed is among the records{why}", exit_code=USAGE)
    compared, differing = run(_replayed(args, whole), of_bundle=USAGE)
    counts = Counter(each.kind for each in differing)
    left_out = Counter(each.gap or "policy had no answer" for each in found if each not in whole)
    examples = {kind: [each.facts for each in differing if each.kind == kind][:_EXAMPLES] for kind in counts}
    if args.json:
        told = {"replayed": len(whole), "compared": compared, "differ": counts, "examples": examples}
        emit({**told, "not_replayable": left_out})
    else:
        _tell(len(whole), compared, counts, examples, left_out)
    return FAILED if differing else OK


async def _replayed(args: argparse.Namespace, judged: list["Judged"]) -> tuple[dict[str, str], list[Difference]]:
    """What is compared, in words, and the calls that it differs on."""
    from proxy.adapters.policy_eval import of_bundles

    opa, policy = await given_policy(args)
    before: list[_Said | str] = [_recorded(each) for each in judged]
    base = "what was recorded"
    if args.against != RECORDED:
        other = await current_policy(args) if args.against == CURRENT else of_bundles([Path(args.against)])
        before, base = await _answers(opa, other, judged), _named(other, None)
    after = await _answers(opa, policy, judged)
    compared = (_difference(*each) for each in zip(judged, before, after, strict=True))
    return {"before": base, "after": _named(policy, args.rego)}, [each for each in compared if each is not None]


async def _answers(opa: Path, policy: "Loaded", judged: list["Judged"]) -> list[_Said | str]:
    """What a policy says of each call; text where that is no decision."""
    import orjson

    from proxy.adapters.bundle_proof import serving

    async def said(ask: "Ask", each: "Judged") -> _Said | str:
        decision = read(await ask(orjson.Fragment(each.document or b"")))
        if isinstance(decision, str):
            return decision
        guards = (("guard", name) for name in decision.guards)
        return str(decision.effect), said_codes(decision).union(guards)

    async with serving(opa, policy.files) as ask:
        return await asyncio.gather(*(said(ask, each) for each in judged))


def _recorded(judged: "Judged") -> _Said:
    guards = judged.record["decision"].get("guards") or ()
    return judged.effect, judged.codes.union(("guard", str(name)) for name in guards)


def _difference(judged: "Judged", before: _Said | str, after: _Said | str) -> Difference | None:
    if before == after:
        return None
    (was, codes_before), (is_, codes) = _effect_and_codes(before), _effect_and_codes(after)
    return Difference(before=was, after=is_, judged=judged, codes_before=codes_before, codes=codes)


def _effect_and_codes(said: _Said | str) -> tuple[str, tuple[str, ...]]:
    if isinstance(said, str):
        return _FAULT, (said[:200],)
    return said[0], tuple(sorted(f"{policy}.{code}" for policy, code in said[1]))


def _named(policy: "Loaded", folders: list[Path] | None) -> str:
    return " with ".join([f"revision {policy.revision[:12]} of {policy.name}", *map(str, folders or ())])


def _tell(
    replayed: int,
    compared: Mapping[str, str],
    counts: Counter[str],
    examples: Mapping[str, Any],
    left_out: Counter[str],
) -> None:
    say(f"{replayed} decisions replayed, {counts.total()} would differ")
    say(clean(f"  before: {compared['before']}; after: {compared['after']}"))
    for kind, count in counts.most_common():
        say(f"  {count:>6}  {kind}")
        for example in examples[kind]:
            before, after = ", ".join(example["before"]) or "-", ", ".join(example["after"]) or "-"
            say(clean(f"          {example['call']} {example['tool']} for {example['principal']}: {before} -> {after}"))
    for why, count in left_out.items():
        say(clean(f"  {count:>6}  not replayed: {why}"))
