"""`python -m tests.faults.run [--seed N] [--seconds S] [--report FILE] [--write]`: one run of the fault harness.

Prints the schedule of the seed and what broke; `--write` puts the figures into tests/faults/REPORT.md.
"""

import argparse
import asyncio
import sys
import time
from pathlib import Path

from tests.faults import bodies
from tests.faults.harness import run
from tests.faults.report import page

REPORT = Path(__file__).with_name("REPORT.md")


def main() -> int:
    """0 if every invariant held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--bodies", type=int, default=100_000, help="bodies for the page, beside the run")
    parser.add_argument("--report", type=Path, help="write the page there")
    parser.add_argument("--write", action="store_true", help=f"write the page to {REPORT.name}")
    args = parser.parse_args()
    found = asyncio.run(run(args.seed, args.seconds))
    for leg in found.legs:
        print(f"-- {leg.name}: seconds after the begin, fault, duration, detail\n{leg.plan}")
    target = args.report or (REPORT if args.write else None)
    if target is not None:
        read = bodies.judge(bodies.bodies(args.seed, args.bodies))
        target.write_text(page(found, read))
        broken = [*found.broken, *read.faults]
    else:
        broken = found.broken
    print("\n".join(broken) or f"seed {args.seed}: every invariant held")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
