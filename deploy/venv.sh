#!/usr/bin/env bash
# Prints the path of a virtual environment made from a hash-pinned lock: venv.sh runtime | demo | test.
# One per lock content and checkout, under the cache, so a second run takes no time. Progress goes to stderr.
# Exit: 0; 64 wrong usage; 69 no Python that serves, or the environment could not be made.
set -euo pipefail
fail() { echo "venv.sh: $2" >&2; exit "$1"; }

repo=$(cd "$(dirname "$0")/.." && pwd)
[ $# = 1 ] || fail 64 "usage: venv.sh runtime | demo | test"
lock="$repo/deploy/locks/$1.txt"
[ -r "$lock" ] || fail 64 "cannot read the lock $lock"

python=""
for candidate in "${SIDEGATE_PYTHON:-}" python3.11 python3.12 python3.13 python3; do
  [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 || continue
  if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$candidate; break; fi
done
[ -n "$python" ] || fail 69 "Python 3.11 or newer is needed; SIDEGATE_PYTHON names one that is not on PATH"

cache=${SIDEGATE_CACHE:-${XDG_CACHE_HOME:+$XDG_CACHE_HOME/sidegate}}
cache=${cache:-${HOME:+$HOME/.cache/sidegate}}
[ -n "$cache" ] || fail 64 "no place for the cache: SIDEGATE_CACHE, XDG_CACHE_HOME and HOME are all unset"
key=$("$python" -c '
import hashlib, sys
lock = open(sys.argv[1], "rb").read()
print(hashlib.sha256(lock + repr((sys.version, sys.prefix, sys.argv[2])).encode()).hexdigest()[:16])' "$lock" "$repo")
venv="$cache/venvs/$1-$key"

complete() { [ -e "$venv/.complete" ] && "$venv/bin/python" -c '' 2>/dev/null; }
make() {
  echo "   making $venv from $(basename "$lock") (once, about a minute)" >&2
  rm -rf "$venv"
  "$python" -m venv "$venv" >&2 || fail 69 "$python cannot make a virtual environment (on Debian and Ubuntu: python3-venv)"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --require-hashes -r "$lock" >&2 ||
    fail 69 "the packages of $(basename "$lock") could not be installed (pip says why above)"
  # The package itself is used from the checkout: a path file and a script are all that an editable install would be.
  site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  echo "$repo" > "$site/sidegate.pth"
  printf '#!%s\nimport sys\nfrom proxy.cli.main import main\nsys.exit(main())\n' "$venv/bin/python" > "$venv/bin/sidegate"
  chmod +x "$venv/bin/sidegate"
  touch "$venv/.complete"
}

if ! complete; then
  mkdir -p "$cache/venvs" 2>/dev/null && exec 9>"$cache/venvs/.lock" || fail 69 "cannot write to the cache $cache"
  if command -v flock >/dev/null 2>&1; then flock 9; fi
  complete || make
fi
echo "$venv"
