"""`sidegate demo --keep`: commands to try by hand while everything still runs."""

import json
import shlex
import sys
import threading
from pathlib import Path

from world import World


def keep(world: World) -> None:
    """Print them and wait for Ctrl-C. The folder stays afterwards."""
    call = json.dumps({"id": "by-hand", "tool": "get_price", "arguments": {"sku": "SKU-3"}})
    folder = shlex.quote(str(world.folder))
    print(
        f"""
It is still running. Try, from any directory, a call that will be held; what the reviewer sees; the audit:

  curl -s {world.url("agent")}/v1/tool-calls -H @{folder}/buying-bearings.header -H 'content-type: application/json' -d '{call}'
  {sidegate()} review list --url {world.url("review")} --token-file {folder}/reviewer.token
  {sidegate()} audit verify --dir {folder}/state/journal

Ctrl-C ends it; {world.folder} stays, so that the last command works afterwards, too.""",
        flush=True,
    )
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print(f"\nended; everything of this run is in {world.folder}", flush=True)


def sidegate() -> str:
    """The command as a shell without our PATH finds it."""
    script = Path(sys.executable).with_name("sidegate")
    if script.exists():
        return shlex.quote(str(script))
    package = Path(sys.modules["proxy"].__file__ or "").parents[1]
    return f"PYTHONPATH={shlex.quote(str(package))} {shlex.quote(sys.executable)} -m proxy.cli"
