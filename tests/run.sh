#!/usr/bin/env bash
# Sets up everything the tests need and runs every check and test. `quick` is the contributor's loop of about 3 minutes: OPA is
# the only tool, no slow tests, and not the suites of other people's input.
# Usage: bash tests/run.sh [quick] [pytest arguments...]
set -euo pipefail
cd "$(dirname "$0")/.."
started=$SECONDS
mode=full
if [ "${1:-}" = quick ]; then mode=quick; shift; fi

step() { printf '== %4ds  %s\n' "$((SECONDS - started))" "$*" >&2; }

step "Python environment from deploy/locks/test.txt"
venv=$(bash deploy/venv.sh test)
export PATH="$venv/bin:$PATH"

step "OPA, pinned"
opa=$(bash deploy/tools.sh opa)
export PATH="$(dirname "$opa"):$PATH"

if [ "$mode" = full ]; then
  step "Jaeger, Kubernetes' API server, Helm, promtool, Redis, a registry: built once, about ten minutes, then from the cache"
  bash deploy/tools.sh redis-server valkey-server docker-registry helm etcd jaeger kube-apiserver promtool >/dev/null
fi

step "ruff: format and lint"
ruff format --check --quiet proxy tests deploy
ruff check --quiet proxy tests deploy
step "mypy: strict types"
mypy --no-error-summary

step "pytest ($mode)"
if [ "$mode" = quick ]; then
  export SIDEGATE_TOOLS_ONLY=path,cache # a test that wants another tool fails on a fresh machine instead of getting it
  python -m pytest -q -m "not slow" --ignore=tests/suites "$@"
else
  python -m pytest -q "$@"
fi
step "done"
