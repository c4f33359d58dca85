"""Every benchmark in order, with progress; each writes its section of README.md. 10 to 15 minutes; `--quick` takes about two.

`--quick` shows that all of it works; its figures are too few to be kept, so it writes nothing unless `--write` is given.
Run: python -m tests.benchmarks.all [--quick] [--write] [--json DIRECTORY]
"""

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.e2e.sidecar import REPO

# Module, flags of the whole run, flags of the quick one.
STEPS = (
    ("run", "--rounds 7 --requests 2000", "--rounds 2 --requests 200"),
    ("evaluation", "--rounds 7 --queries 200", "--rounds 1 --queries 30"),
    ("stages", "--repetitions 25 --calls 256", "--repetitions 3 --calls 64"),
    ("profiled", "--requests 10000", "--requests 1000"),
    ("held", "--held 1000 --rounds 6 --requests 1600", "--held 200 --rounds 2 --requests 200"),
    ("held", "--held 4000 --rounds 6 --requests 1600", ""),
    ("conversations", "--many 100000 --rounds 6 --requests 1600", "--many 2000 --rounds 2 --requests 200"),
    ("stores", "--rounds 7 --requests 2000", "--rounds 2 --requests 200"),
    ("startup", "--rounds 5", "--rounds 1"),
    ("container", "--rounds 5", "--rounds 1"),
    ("tail", "--rounds 6 --requests 1000 --seconds 4", "--rounds 1 --requests 100 --seconds 1"),
    (
        "growth",
        "--seconds 4 --top 5000 --conversations 100000 --held 4000",
        "--seconds 1 --top 400 --conversations 1000 --held 100",
    ),
)


def main() -> int:
    """Exit code 1 if one of them failed; the others are run all the same."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small numbers, about two minutes")
    parser.add_argument("--write", action="store_true", help="write README.md even if quick")
    parser.add_argument("--json", type=Path, help="a directory for the figures, one file each")
    args = parser.parse_args()
    if shutil.which("envoy") is None:
        print("There is no Envoy on PATH, so the comparison with it (P4, P5) is left out.", flush=True)
    if args.json:
        args.json.mkdir(parents=True, exist_ok=True)
    began, failed = time.monotonic(), []
    for number, (module, whole, quick) in enumerate(STEPS, 1):
        flags = (quick if args.quick else whole).split()
        if not flags:
            continue
        print(f"== {time.monotonic() - began:4.0f} s  {number} of {len(STEPS)}: {module} {' '.join(flags)}", flush=True)
        flags += ["--write"] if args.write or not args.quick else []
        flags += ["--json", str(args.json / f"{number}-{module}.json")] if args.json else []
        done = subprocess.run([sys.executable, "-m", f"tests.benchmarks.{module}", *flags], cwd=REPO, check=False)
        failed += [module] if done.returncode else []
    print(
        f"== {time.monotonic() - began:4.0f} s  " + (f"failed: {', '.join(failed)}" if failed else "done"), flush=True
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
