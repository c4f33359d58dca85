"""`sidegate review list | show | approve | reject`: what waits for a person, through the review port."""

import argparse
from collections.abc import Mapping
from typing import Any

from proxy.cli.common import OK, add_command, clean, say, table
from proxy.cli.review_client import ask, name, read, rendered, review_port_arguments
from proxy.core.review import ReviewStatus
from proxy.core.story import ascii_json

_PORT = "Asks the review port of the running sidecar, with a reviewer's token."
_LONG = 200  # characters; the length of a longer value is said


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the subcommand."""
    parser = add_command(subparsers, "review", "list, show, approve or reject held calls", _PORT)
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    listed = add_command(actions, "list", "held calls, newest first", _PORT)
    listed.add_argument(
        "--status", default="pending", choices=[*map(str, ReviewStatus), "all"], help="which (default: pending)"
    )
    listed.set_defaults(handler=_list)
    shown = add_command(actions, "show", "one held call whole: what will run, why it is held, what led here", _PORT)
    shown.set_defaults(handler=_show)
    approve = add_command(actions, "approve", "say yes to exactly the call that was shown; it runs once", _PORT)
    approve.add_argument("--digest", required=True, help="the digest as `review show` printed it")
    approve.set_defaults(handler=_approve)
    reject = add_command(actions, "reject", "say no; the comment goes back to the model", _PORT)
    reject.set_defaults(handler=_reject)
    for action in (shown, approve, reject):
        action.add_argument("review", metavar="REVIEW", help="the review's id, as `review list` printed it")
    for action in (approve, reject):
        action.add_argument("--comment", default="", help="why, for the record")
    for action in (listed, shown, approve, reject):
        review_port_arguments(action)


def _list(args: argparse.Namespace) -> int:
    answer = ask(args, "GET", f"/v1/reviews?status={args.status}")
    if args.json:
        say(ascii_json(answer))
        return OK
    reviews = read(answer)
    if not reviews:
        say("nothing is held" if args.status == "pending" else "there is none")
        return OK
    table(
        reviews,
        [
            ("REVIEW", lambda r: r["id"]),
            ("STATUS", lambda r: r["status"]),
            ("TOOL", lambda r: r["tool"]),
            ("FOR", lambda r: r["principal"]["name"] or r["principal"]["id"]),
            ("REASONS", lambda r: ", ".join(sorted(_codes(r)))),
            ("APPROVERS", lambda r: ", ".join(r["approvers"]) or "any reviewer"),
            ("EXPIRES", lambda r: r["expires_at"]),
        ],
    )
    return OK


def _show(args: argparse.Namespace) -> int:
    answer = ask(args, "GET", f"/v1/reviews/{name(args.review)}")
    if args.json:
        say(ascii_json(answer))
        return OK
    for line in _lines(read(answer)):
        say(line)
    return OK


def _approve(args: argparse.Namespace) -> int:
    return _resolve(args, "approve", {"digest": args.digest, "comment": args.comment})


def _reject(args: argparse.Namespace) -> int:
    return _resolve(args, "reject", {"comment": args.comment})


def _resolve(args: argparse.Namespace, verb: str, body: dict[str, str]) -> int:
    answer = ask(args, "POST", f"/v1/reviews/{name(args.review)}/{verb}", body)
    if args.json:
        say(ascii_json(answer))
        return OK
    review = read(answer)
    say(clean(f"{review['id']} is {review['status']}, by {review['by']}"))
    return OK


def _lines(review: dict[str, Any]) -> list[str]:
    principal, masked = review["principal"], " (secrets are masked)" if review["arguments_masked"] else ""
    earlier = [
        f"{c['seq']}. {c['tool']} ({c['system']}, {c['effect']}): {c['outcome']}" for c in review["earlier_calls"]
    ]
    rows = [
        ("review", [f"{review['id']}  {review['status']}, until {review['expires_at']}"]),
        ("will run", [f"{review['tool']} version {review['version']}{masked}"]),
        ("", [f"{argument} = {_value(value)}" for argument, value in review["arguments"].items()]),
        ("digest", [review["digest"]]),
        ("for", [f"{principal['name']} ({principal['id']}), conversation {review['conversation']}"]),
        ("held for", _sentences(review)),
        ("approvers", [", ".join(review["approvers"]) or "any reviewer"]),
        ("trace", [review["trace_id"]]),
        ("earlier", earlier or ["no earlier calls"]),
    ]
    if review["agent_says"]:
        rows.append(("agent says", [review["agent_says"], "(a claim of the agent's, nothing that was checked)"]))
    return [f"{title if n == 0 else '':<12}{clean(line)}" for title, lines in rows for n, line in enumerate(lines)]


def _value(value: object) -> str:
    """As JSON, so that a text cannot pass for a number; a long one with its length."""
    text = rendered(value)
    return text if len(text) <= _LONG else f"{text}  [{len(text)} characters]"


def _sentences(review: dict[str, Any]) -> list[str]:
    return [f"{policy}/{r['code']}: {r.get('message', '')}" for policy, said in review["reasons"].items() for r in said]


def _codes(review: Mapping[str, Any]) -> set[str]:
    return {r["code"] for said in review["reasons"].values() for r in said}
