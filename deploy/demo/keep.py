"""`sidegate demo --keep`: commands to try by hand while everything still runs."""

import json
import shlex
import sys
import threading
from pathlib import Path
from typing import Any

from world import World


def keep(world: World) -> None:
    """Print them and wait for Ctrl-C. The folder stays afterwards."""
    call = json.dumps({"id": "by-hand", "tool": "get_price", "arguments": {"sku": "SKU-3"}})
    folder = shlex.quote(str(world.folder))
    held = _held(world)
    review, asked = f"{sidegate()} review", f"--url {world.url('review')} --token-file {folder}/reviewer.token"
    print(
        f"""
It is still running. Try, from any directory, a call that will be held; what the reviewer sees, and their yes to the story's last
held call; the audit:

  curl -s {world.url("agent")}/v1/tool-calls -H @{folder}/buying-bearings.header -H 'content-type: application/json' -d '{call}'
  {review} list {asked}
  {review} show {held["id"]} {asked}
  {review} approve {held["id"]} --digest {held["digest"]} {asked}
  {sidegate()} audit verify --dir {folder}/state/journal

Ctrl-C ends it; {world.folder} stays, so that the last command works afterwards, too.""",
        flush=True,
    )
    try:
        # In steps: the kernel may hand Ctrl-C to another thread, and who waits without end here would never hear of it.
        never = threading.Event()
        while not never.wait(0.5):
            pass
    except KeyboardInterrupt:
        print(f"\nended; everything of this run is in {world.folder}", flush=True)


def _held(world: World) -> dict[str, Any]:
    """The call that the story leaves held, as the reviewer sees it."""
    asked = ("--url", world.url("review"), "--token-file", "reviewer.token", "--json")
    newest = json.loads(world.sidegate("review", "list", *asked).stdout)[0]["id"]
    shown: dict[str, Any] = json.loads(world.sidegate("review", "show", newest, *asked).stdout)
    return shown


def sidegate() -> str:
    """The command as a shell without our PATH finds it."""
    script = Path(sys.executable).with_name("sidegate")
    if script.exists():
        return shlex.quote(str(script))
    package = Path(sys.modules["proxy"].__file__ or "").parents[1]
    return f"PYTHONPATH={shlex.quote(str(package))} {shlex.quote(sys.executable)} -m proxy.cli"
