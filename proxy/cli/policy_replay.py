"""`sidegate policy replay`: what a changed policy would have decided about recorded calls."""

import argparse
import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from proxy.cli.common import FAILED, OK, Failure, add_command, clean, emit, json_argument, say
from proxy.cli.journal_input import condition_arguments, conditions, lines, reading, source_arguments
from proxy.cli.policy_build import run
from proxy.cli.policy_given import given_policy, policy_arguments, read, said_codes

if TYPE_CHECKING:
    from proxy.core.recorded import Judged

_ABOUT = """Reads journal records - shipped logs on standard input, unless PATH or --dir says otherwise - and asks OPA
about each recorded decision again: with the policy that the settings in the current directory name, or the one given.
Each call is taken as it was: a call that the policy would have refused still counts in what came after it.
Exit code 0 if nothing would be decided otherwise, 1 if something would, or if nothing could be replayed."""
_EXAMPLES = 3
_FAULT = "fault"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One call that would be decided otherwise; with one effect for another, or the same for other reasons."""

    before: str
    after: str
    judged: "Judged"
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
            "before": sorted(f"{policy}.{code}" for policy, code in self.judged.codes),
            "after": list(self.codes),
        }


def add_parser(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the action."""
    parser = add_command(actions, "replay", "what a changed policy would have decided about recorded calls", _ABOUT)
    condition_arguments(parser)
    source_arguments(parser, stdin=True)
    policy_arguments(parser)
    json_argument(parser)
    parser.set_defaults(handler=reading(replay))


def replay(args: argparse.Namespace) -> int:
    """Count and show the differences."""
    from proxy.core.recorded import NOT_ASKED, Recorded

    recorded = Recorded(conditions(args))
    for line in lines(args):
        recorded.take(line)
    found = [each for each in recorded.judged() if each.effect or each.gap != NOT_ASKED]
    whole = [each for each in found if each.document is not None and each.effect]
    if not whole:
        why = next((f": {each.gap}" for each in found if each.gap), "")
        raise Failure(f"no decision that could be replayed is among the records{why}")
    differing = run(_replayed(args, whole))
    counts = Counter(each.kind for each in differing)
    left_out = Counter(each.gap or "policy had no answer" for each in found if each not in whole)
    examples = {kind: [each.facts for each in differing if each.kind == kind][:_EXAMPLES] for kind in counts}
    if args.json:
        emit({"replayed": len(whole), "differ": counts, "examples": examples, "not_replayable": left_out})
    else:
        _tell(len(whole), counts, examples, left_out)
    return FAILED if differing else OK


async def _replayed(args: argparse.Namespace, judged: list["Judged"]) -> list[Difference]:
    import orjson

    from proxy.adapters.bundle_proof import serving

    opa, policy = await given_policy(args)
    async with serving(opa, policy.files) as ask:
        answers = await asyncio.gather(*(ask(orjson.Fragment(each.document or b"")) for each in judged))
    compared = (_difference(each, answer) for each, answer in zip(judged, answers, strict=True))
    return [difference for difference in compared if difference is not None]


def _difference(judged: "Judged", answer: Any) -> Difference | None:
    decision = read(answer)
    if isinstance(decision, str):
        return Difference(before=judged.effect, after=_FAULT, judged=judged, codes=(decision[:200],))
    codes = said_codes(decision)
    if (decision.effect, codes) == (judged.effect, judged.codes):
        return None
    named = (*(f"{name}.{code}" for name, code in sorted(codes)), *(f"guard {name}" for name in decision.guards))
    return Difference(before=judged.effect, after=str(decision.effect), judged=judged, codes=named)


def _tell(replayed: int, counts: Counter[str], examples: Mapping[str, Any], left_out: Counter[str]) -> None:
    say(f"{replayed} decisions replayed, {counts.total()} would differ")
    for kind, count in counts.most_common():
        say(f"  {count:>6}  {kind}")
        for example in examples[kind]:
            before, after = ", ".join(example["before"]) or "-", ", ".join(example["after"]) or "-"
            say(clean(f"          {example['call']} {example['tool']} for {example['principal']}: {before} -> {after}"))
    for why, count in left_out.items():
        say(clean(f"  {count:>6}  not replayed: {why}"))
