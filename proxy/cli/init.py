"""`sidegate init`: a directory that `check` accepts and `serve` runs."""

import argparse
from pathlib import Path

from proxy.cli.common import OK, USAGE, Failure, emit, json_argument, say

PRESETS = ("read-only", "guarded-writes")
_TEMPLATES = Path(__file__).parent.parent / "presets"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser("init", help="write settings, catalog, policy and tokens to begin with")
    parser.add_argument("directory", nargs="?", type=Path, default=Path(), help="where (default: here)")
    parser.add_argument("--preset", choices=PRESETS, default="guarded-writes", help="what policy starts from")
    json_argument(parser)
    parser.set_defaults(handler=_init)


def _init(args: argparse.Namespace) -> int:
    from proxy.adapters.token_file import token_line

    user, user_line = token_line(subject="user", name="First User", tenant="default", roles=("user",))
    reviewer, reviewer_line = token_line(
        subject="reviewer", name="First Reviewer", tenant="default", roles=("reviewers", "operator")
    )
    public = {
        "sidegate.yaml": (_TEMPLATES / "sidegate.yaml").read_text(),
        "catalog/tools.yaml": (_TEMPLATES / "catalog.yaml").read_text(),
        "policy.yaml": (_TEMPLATES / f"policy-{args.preset}.yaml").read_text(),
        ".gitignore": "state/\n*.token\n",
    }
    private = {
        "tokens.yaml": user_line,
        "reviewers.yaml": reviewer_line,
        "user.token": f"{user}\n",
        "reviewer.token": f"{reviewer}\n",
    }
    _refuse_to_overwrite(args.directory, [*public, *private])
    for name, text in {**public, **private}.items():
        path = args.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600 if name in private else 0o644)
        path.write_text(text)
    _tell(args, sorted([*public, *private]))
    return OK


def _refuse_to_overwrite(directory: Path, names: list[str]) -> None:
    there = [name for name in names if (directory / name).exists()]
    if there:
        raise Failure(
            f"{directory.resolve()} already has {', '.join(sorted(there))}; nothing was written", exit_code=USAGE
        )


def _tell(args: argparse.Namespace, names: list[str]) -> None:
    if args.json:
        emit({"directory": str(args.directory.resolve()), "preset": args.preset, "files": names})
        return
    where = "" if args.directory == Path() else f"cd {args.directory} && "
    say(f"wrote {', '.join(names)}")
    say(f"next: {where}sidegate check && sidegate serve")
