"""`sidegate init`: a directory that `check` accepts and `serve` runs."""

import argparse
import shlex
from collections.abc import Mapping
from pathlib import Path

from proxy.cli.common import OK, USAGE, Failure, emit, json_argument, say

PRESETS = ("read-only", "guarded-writes")
_TEMPLATES = Path(__file__).parent.parent / "presets"
_WHAT: Mapping[str, str] = {
    "sidegate.yaml": "settings: ports, files, credentials of upstreams",
    "catalog/tools.yaml": "which tools there are; add files of your own beside it",
    "policy.yaml": "who may do what, what may not meet, what a person must see",
    "tokens.yaml": "users: hashes of their tokens, and their roles",
    "user.token": "the first user's token (role user)",
    "reviewers.yaml": "reviewers, the same",
    "reviewer.token": "the first reviewer's token (roles reviewers, operator)",
    ".gitignore": "keeps state and tokens out of git",
}
_PEOPLE = """# {}: an entry each. A token is known by its hash only; for a new one:
#   openssl rand -hex 32 > new.token && printf sha256: && tr -d '\\n' < new.token | sha256sum
# Besides: name, tenant, attributes, expires. `roles` are what policy.yaml speaks of. {}.token fits the first entry.
"""
_PRIVATE = frozenset({"tokens.yaml", "user.token", "reviewers.yaml", "reviewer.token"})


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "init",
        help="write settings, catalog, policy and tokens to begin with",
        description="Write settings, catalog, policy and tokens to begin with. Files that are there are never overwritten.",
        epilog="Presets: read-only (nothing is ever changed); guarded-writes (what changes or leaves something\n"
        "is held until a reviewer has seen it).",
    )
    parser.add_argument("directory", nargs="?", type=Path, default=Path(), help="where (default: here)")
    parser.add_argument("--preset", choices=PRESETS, default="guarded-writes", help="default: guarded-writes")
    json_argument(parser)
    parser.set_defaults(handler=_init)


def _init(args: argparse.Namespace) -> int:
    directory: Path = args.directory
    texts = _texts(args.preset)
    try:
        written = _write(directory, texts)
    except OSError as error:
        raise Failure(f"{error.filename or directory}: {error.strerror}", exit_code=USAGE) from None
    if args.json:
        emit({"directory": str(directory.resolve()), "preset": args.preset, "files": written})
    else:
        _tell(directory, args.preset, written)
    return OK


def _texts(preset: str) -> dict[str, str]:
    from proxy.adapters.token_file import token_line

    user, user_line = token_line(subject="user", name="First User", tenant="default", roles=("user",))
    reviewer, reviewer_line = token_line(
        subject="reviewer", name="First Reviewer", tenant="default", roles=("reviewers", "operator")
    )
    return {
        "sidegate.yaml": (_TEMPLATES / "sidegate.yaml").read_text(),
        "catalog/tools.yaml": (_TEMPLATES / "catalog.yaml").read_text(),
        "policy.yaml": (_TEMPLATES / f"policy-{preset}.yaml").read_text(),
        "tokens.yaml": _PEOPLE.format("Users", "user") + user_line,
        "user.token": f"{user}\n",
        "reviewers.yaml": _PEOPLE.format("Reviewers", "reviewer") + reviewer_line,
        "reviewer.token": f"{reviewer}\n",
        ".gitignore": "state/\n*.token\n",
    }


def _write(directory: Path, texts: Mapping[str, str]) -> list[str]:
    there = [name for name in texts if (directory / name).exists()]
    if set(there) - {".gitignore"}:
        raise Failure(f"{directory.resolve()} already has {', '.join(there)}; nothing was written", exit_code=USAGE)
    written = [name for name in texts if name not in there]
    for name in written:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600 if name in _PRIVATE else 0o644)
        path.write_text(texts[name])
    return written


def _tell(directory: Path, preset: str, written: list[str]) -> None:
    say(f"wrote to {directory.resolve()} (preset {preset}):")
    for name in written:
        say(f"  {name:<20}{_WHAT[name]}")
    if ".gitignore" not in written:
        say("  .gitignore was there and stays as it is: add state/ and *.token to it")
    say("next:")
    if directory != Path():
        say(f"  cd {shlex.quote(str(directory))}")
    say(f"  {'sidegate check':<20}# whether everything is in order")
    say(f"  {'sidegate serve':<20}# runs until Ctrl-C; agents call 127.0.0.1:8900, reviewers 127.0.0.1:8902")
