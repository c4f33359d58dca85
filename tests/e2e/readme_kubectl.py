"""kubectl for README's pages where there is no kubelet: what it would run in the pod runs in the pod rig.

Run as a program: STATE.json exec|logs|port-forward|get ... A pod has one name here; the container has to be the chart's.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from tests.pod import kernel
from tests.pod.container import Spec
from tests.pod.rig import PORTS

REPO = Path(__file__).parents[2]


def main(state: dict[str, Any], verb: str, *words: str) -> int:
    """One command. `state`: the sidecar's container as `Spec` has it, its log file, the bundle's ConfigMap as base64."""
    if verb == "exec":
        _, option, container, dashes, *argv = words
        assert (option, container, dashes) == ("-c", "sidegate", "--"), words
        text = Spec(**{**state["container"], "argv": argv}).text()
        command = [sys.executable, "-m", "tests.pod.container", text]
        return subprocess.run(command, cwd=REPO, check=False, stdin=subprocess.DEVNULL).returncode
    if verb == "logs":
        assert words[1:] == ("-c", "sidegate"), words
        sys.stdout.write(Path(state["log"]).read_text())
        return 0
    if verb == "port-forward":
        forward(int(words[1]), state["container"]["network"])
    assert words[:1] == ("configmap",), words
    assert words[2:] == ("-o", r"jsonpath={.binaryData.policy\.tar\.gz}"), words
    sys.stdout.write(state["bundle"])
    return 0


def forward(port: int, network: str) -> None:
    """As a kubelet does it: from the machine's loopback to the loopback of the pod, whatever listens there."""
    listening = socket.create_server(("127.0.0.1", port))
    descriptor = os.open(network, os.O_RDONLY | os.O_CLOEXEC)
    kernel.setns(descriptor, kernel.CLONE_NEWNET)  # the socket stays where it was made
    while True:
        client, _ = listening.accept()
        there = socket.create_connection(("127.0.0.1", PORTS["review"]))
        for source, target in ((client, there), (there, client)):
            threading.Thread(target=_copy, args=(source, target), daemon=True).start()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    sys.exit(main(json.loads(Path(sys.argv[1]).read_text()), *sys.argv[2:]))
