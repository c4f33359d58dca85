"""`sidegate policy history | rollback`: go back to a policy that was in force, in the state directory of one sidecar."""

import argparse
import os
import pwd
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from proxy.cli.common import OK, USAGE, Failure, emit, progress, read_settings, say, table

if TYPE_CHECKING:
    from proxy.adapters.policy_history import Kept, PolicyHistory

_WAIT = 20.0  # seconds for the sidecar to take it over: it looks every one
_LOOK = 0.1


def history(args: argparse.Namespace) -> int:
    """What was in force, newest first."""
    kept = _history(args)
    entries, pin, now = kept.entries(), kept.pin(), kept.in_force()
    rows = [
        {
            "revision": entry.revision,
            "since": entry.since,
            "in_force": entry.content == now,
            "layers": dict(entry.layers),
        }
        for entry in entries
    ]
    if args.json:
        back = None if pin is None else {"by": pin.by, "at": pin.at}
        emit({"policies": rows, "rolled_back": back})
        return OK
    if not rows:
        raise Failure(
            "no policy has been in force with this state directory; the sidecar notes them as it takes them over"
        )
    mark = "in force, by rollback" if pin is not None else "in force"
    table(
        rows,
        (
            ("REVISION", lambda row: str(row["revision"])[:12]),
            ("SINCE", lambda row: str(row["since"])),
            ("LAYERS", lambda row: ", ".join(f"{name} {str(of)[:12]}" for name, of in row["layers"].items())),
            ("", lambda row: mark if row["in_force"] else ""),
        ),
    )
    return OK


def rollback(args: argparse.Namespace) -> int:
    """Pin an earlier policy, or end that, and wait until the sidecar has taken it over."""
    from proxy.adapters.policy_history import Pin

    kept = _history(args)
    if args.end:
        return _ended(args, kept)
    target = _target(kept, args.revision)
    source = next(entry.source for entry in kept.entries())
    at = datetime.now(UTC).isoformat(timespec="seconds")
    _written(lambda: kept.set_pin(Pin(content=target.content, source=source, by=_who(), at=at)))
    return _awaited(args, kept, lambda: kept.in_force() == target.content, f"back to {target.revision[:12]}")


def _ended(args: argparse.Namespace, kept: "PolicyHistory") -> int:
    if kept.pin() is None:
        raise Failure("no rollback is in force; nothing to end")
    newest = kept.entries()[0]
    _written(kept.end_pin)
    return _awaited(
        args, kept, lambda: kept.in_force() == newest.content, f"the source's policy, {newest.revision[:12]}"
    )


def _target(kept: "PolicyHistory", revision: str | None) -> "Kept":
    entries, now = kept.entries(), kept.in_force()
    if revision is not None:
        found = kept.find(revision)
        if len(found) != 1:
            raise Failure(
                f"{'no kept policy has' if not found else 'several kept policies have'} a revision that begins with "
                f"{revision}; `sidegate policy history` lists them"
            )
        target = found[0]
    else:
        place = next((index for index, entry in enumerate(entries) if entry.content == now), len(entries))
        if place + 1 >= len(entries):
            raise Failure("no policy before the one in force is kept; `sidegate policy history` lists them")
        target = entries[place + 1]
    if target.content == now:
        raise Failure(f"{target.revision[:12]} is in force already")
    return target


def _awaited(args: argparse.Namespace, kept: "PolicyHistory", taken: Callable[[], bool], what: str) -> int:
    progress("waiting for the sidecar, which looks every second")
    end = time.monotonic() + _WAIT
    while not taken():
        if time.monotonic() > end:
            raise Failure(
                f"written, but no sidecar has taken it over in {_WAIT:g} s: it is not running with this state directory, or "
                "its log says why it cannot; `sidegate policy rollback --end` takes it back"
            )
        time.sleep(_LOOK)
    if args.json:
        emit({"in_force": next(entry.revision for entry in kept.entries() if entry.content == kept.in_force())})
    else:
        say(f"in force: {what}")
    return OK


def _history(args: argparse.Namespace) -> "PolicyHistory":
    from proxy.adapters.workshop import Workshop

    return Workshop(read_settings(args)).history


def _written(work: Callable[[], None]) -> None:
    try:
        work()
    except OSError as error:
        raise Failure(f"the state directory cannot be written: {error.strerror}", exit_code=USAGE) from None


def _who() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # as in most containers
        return f"uid {os.getuid()}"
