#!/usr/bin/env bash
# Prints the path of a virtual environment made from a hash-pinned lock: venv.sh runtime | demo | test.
# One per lock content and checkout, under the cache, so a second run takes no time. Progress goes to stderr.
set -euo pipefail
repo=$(cd "$(dirname "$0")/.." && pwd)
lock="$repo/deploy/locks/${1:?usage: venv.sh runtime|demo|test}.txt"
[ -r "$lock" ] || { echo "venv.sh: no lock $lock" >&2; exit 64; }

python=""
for candidate in "${SIDEGATE_PYTHON:-}" python3.11 python3.12 python3.13 python3; do
  [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 || continue
  if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$candidate; break; fi
done
[ -n "$python" ] || { echo "venv.sh: Python 3.11 or newer is needed (SIDEGATE_PYTHON names it)" >&2; exit 69; }

cache="${SIDEGATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sidegate}/venvs"
key=$({ "$python" -c 'import sys; print(sys.version, sys.prefix)'; cat "$lock"; echo "$repo"; } | sha256sum | cut -c1-16)
venv="$cache/$1-$key"
if [ ! -e "$venv/.complete" ]; then
  mkdir -p "$cache"
  exec 9>"$cache/.lock"
  if command -v flock >/dev/null 2>&1; then flock 9; fi
  if [ ! -e "$venv/.complete" ]; then
    echo "   making $venv from $(basename "$lock") (once, about a minute)" >&2
    rm -rf "$venv"
    "$python" -m venv "$venv" >&2
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock" >&2
    # The package itself is used from the checkout: a path file and a script are all that an editable install would be.
    site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    echo "$repo" > "$site/sidegate.pth"
    printf '#!%s\nimport sys\nfrom proxy.cli.main import main\nsys.exit(main())\n' "$venv/bin/python" > "$venv/bin/sidegate"
    chmod +x "$venv/bin/sidegate"
    touch "$venv/.complete"
  fi
fi
echo "$venv"
