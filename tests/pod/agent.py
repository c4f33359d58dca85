"""The agent of the tests, run in its own container: agent.py serve | job N | eager | late.

It registers a conversation with the user's token of its environment, calls tools through the sidecar, and prints a line of
JSON for each answer. Standard library only.
"""

import json
import os
import signal
import sys
import threading
import urllib.error
import urllib.request
from typing import Any

URL = os.environ["SIDEGATE_URL"]


def ask(method: str, path: str, body: object, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(
        URL + path, json.dumps(body).encode(), {"content-type": "application/json", **headers}, method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refusal:
        return refusal.code, json.load(refusal)


def call(number: int, handle: str, tool: str = "get_stock") -> int:
    body = {"id": f"c{number}", "tool": tool, "arguments": {"sku": f"S{number}"}}
    status, answer = ask("POST", "/v1/tool-calls", body, {"x-sidegate-conversation": handle})
    print(json.dumps({"status": status, "answer": answer}), flush=True)
    return status


def main(mode: str, times: int) -> int:
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    token = {"authorization": f"Bearer {os.environ['USER_TOKEN']}"}
    status, answer = ask("PUT", "/v1/conversations/of-the-agent", {"text": "hello"}, token)
    print(json.dumps({"registered": status}), flush=True)
    if status != 200:
        return 3
    handle = answer["handle"]
    if mode in ("job", "eager") and any(call(n, handle) != 200 for n in range(times)):
        return 4
    if mode == "job":
        return 0
    told.wait()
    if mode == "late":  # the app's own way to the end takes a while and needs a tool
        threading.Event().wait(1.5)
        return 0 if call(99, handle) == 200 else 5
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1))
