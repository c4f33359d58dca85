#!/usr/bin/env bash
# From nothing to the main job on real input: an environment, a pinned OPA, the demo. A second run takes seconds.
# Usage: bash deploy/quickstart.sh [--keep] [--jaeger] [other arguments of `sidegate demo`]
set -euo pipefail
cd "$(dirname "$0")/.."
started=$SECONDS
step() { printf '== %4ds  %s\n' "$((SECONDS - started))" "$*" >&2; }

step "1/3 Python environment from deploy/locks/demo.txt (hash-pinned)"
venv=$(bash deploy/venv.sh demo)
step "2/3 OPA, pinned (built or fetched once)"
opa=$(bash deploy/tools.sh opa)
PATH=$(dirname "$opa"):$venv/bin:$PATH
for argument in "$@"; do
  [[ $argument == --jaeger ]] || continue
  step "    Jaeger, pinned (built once, some minutes)"
  jaeger=$(bash deploy/tools.sh jaeger)
  PATH=$(dirname "$jaeger"):$PATH
done
step "3/3 sidegate demo"
status=0
sidegate demo "$@" || status=$?
step "done, exit code $status"
exit "$status"
