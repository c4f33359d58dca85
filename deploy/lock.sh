#!/usr/bin/env bash
# Makes deploy/locks/*.txt anew from pyproject.toml: exact versions and hashes, no index address. Needs `uv` on PATH.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v uv >/dev/null 2>&1 || { echo "lock.sh: uv is needed (pip install uv)" >&2; exit 69; }
options=(--python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --quiet)
uv pip compile pyproject.toml "${options[@]}" --output-file deploy/locks/runtime.txt
uv pip compile pyproject.toml --extra demo "${options[@]}" --constraint deploy/locks/runtime.txt --output-file deploy/locks/demo.txt
uv pip compile pyproject.toml --extra demo --group test "${options[@]}" --constraint deploy/locks/demo.txt --output-file deploy/locks/test.txt
# What builds the wheel in the image (deploy/Dockerfile): the build backend of pyproject.toml and what it needs.
sed -n 's/^requires = \["\(.*\)"\]$/\1/p' pyproject.toml | uv pip compile - "${options[@]}" --no-annotate --output-file deploy/locks/build.txt
