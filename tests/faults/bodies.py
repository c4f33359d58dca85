"""Bodies by the million against the reader of tool calls: it never breaks, and takes nothing that another reader reads differently.

`python -m tests.faults.bodies [--seed N] [--count N]`. What is taken is compared with the standard library, orjson and node.
"""

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from proxy.core import strict_json
from proxy.errors import Refusal
from proxy.model import ToolCall
from proxy.wire import dialects
from tests.faults.mutants import body
from tests.faults.parsers import Node, by_orjson, by_standard_library, node, number_tokens

BATCH = 2000


@dataclass(slots=True, kw_only=True)
class Findings:
    """What came of it. `faults` must be empty."""

    read: int = 0
    taken: Counter[str] = field(default_factory=Counter)  # calls of accepted bodies, by dialect
    refused: Counter[str] = field(default_factory=Counter)
    compared: Counter[str] = field(default_factory=Counter)  # texts, by the other reader
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0


def texts_taken(text: bytes, findings: Findings) -> list[bytes]:
    """Feed one body; the JSON texts that were taken from it: itself, and the arguments of its calls."""
    findings.read += 1
    try:
        tree = strict_json.read_tree(text)
        copy = strict_json.write(tree)
    except Refusal as refusal:
        findings.refused[refusal.code] += 1
        return []
    except Exception as fault:  # noqa: BLE001 - any other end is the finding
        findings.faults.append(f"reader broke with {type(fault).__name__}: {text!r}")
        return []
    if number_tokens(copy) != number_tokens(text):
        findings.faults.append(f"digits changed: {text!r} -> {copy!r}")
    if by_standard_library(copy) != by_standard_library(text):
        findings.faults.append(f"the copy says something else: {text!r} -> {copy!r}")
    return [text, *_arguments(text, findings)]


def _arguments(text: bytes, findings: Findings) -> Iterator[bytes]:
    try:
        batch = dialects.parse(text)
    except Refusal as refusal:
        findings.refused[refusal.code] += 1
        return
    except Exception as fault:  # noqa: BLE001 - any other end is the finding
        findings.faults.append(f"a dialect broke with {type(fault).__name__} ({fault}): {text!r}")
        return
    for item in batch.items:
        if isinstance(item, ToolCall):
            findings.taken[item.dialect] += 1
            yield item.arguments.raw
        else:
            findings.refused[item.refusal.code] += 1


def compare(texts: list[bytes], other: Node | None, findings: Findings) -> None:
    """Ask the other readers about texts that were taken."""
    answers = {"orjson": [by_orjson(text) for text in texts]}
    if other is not None:
        answers["node"] = other.read(texts)
    for name, read in answers.items():
        for text, theirs in zip(texts, read, strict=True):
            findings.compared[name] += 1
            ours = by_standard_library(text)
            if ours != theirs:
                findings.faults.append(f"{name} reads {text!r} as {theirs[:300]}, we as {ours[:300]}")


def judge(bodies: Iterable[bytes], *, most_faults: int = 20) -> Findings:
    """All bodies, one after the other."""
    findings = Findings()
    began = time.monotonic()
    with node() as other:
        taken: list[bytes] = []
        for text in bodies:
            taken += texts_taken(text, findings)
            if len(taken) >= BATCH:
                compare(taken, other, findings)
                taken.clear()
            if len(findings.faults) >= most_faults:
                break
        compare(taken, other, findings)
    findings.seconds = time.monotonic() - began
    return findings


def bodies(seed: int, count: int) -> Iterator[bytes]:
    """So many bodies of this seed."""
    rng = random.Random(seed)
    for _ in range(count):
        yield body(rng)


def main() -> int:
    """Print what came of it as one JSON object; 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=100_000)
    args = parser.parse_args()
    findings = judge(bodies(args.seed, args.count))
    summary = {name: getattr(findings, name) for name in Findings.__slots__}
    print(json.dumps({"seed": args.seed, **summary}, indent=1))
    return 1 if findings.faults else 0


if __name__ == "__main__":
    sys.exit(main())
