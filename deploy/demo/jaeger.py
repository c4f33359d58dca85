"""`sidegate demo --jaeger`: a real Jaeger takes the traces instead of the demo's own collector, and its API tells them."""

import os
import shutil
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests
from collector import Shown
from world import HERE, World, free_ports

CONFIG = HERE.with_name(HERE.name.replace("demo", "jaeger"))  # beside the demo, in the checkout and in the wheel
PORTS = ("collector", "jaeger", "jaeger_grpc", "jaeger_health", "collector_grpc")
GET_IT = "`bash deploy/tools.sh jaeger` builds the pinned one (once, some minutes); `bash deploy/quickstart.sh --jaeger` does that"
NO_UI = "not the Jaeger UI you are looking for"  # what Jaeger serves when it was built without its UI


@dataclass(frozen=True, slots=True)
class Jaeger:
    """A running Jaeger. `url` is its UI's and API's."""

    url: str

    def spans(self, trace_id: str) -> list[Shown]:
        """Those that have come, by the API."""
        answer = requests.get(f"{self.url}/api/traces/{trace_id}", timeout=10)
        if answer.status_code == 404:
            return []
        answer.raise_for_status()
        return [_shown(span, trace["processes"]) for trace in answer.json()["data"] for span in trace["spans"]]

    def has_ui(self) -> bool:
        """Go's module proxy serves Jaeger without its UI, which is built apart."""
        return NO_UI not in requests.get(self.url, timeout=10).text

    def links(self, trace_id: str, review: str) -> list[str]:
        """Where a person and where a program finds the story of a held call."""
        tags = quote(f'{{"sidegate.review_id":"{review}"}}')
        found = [
            f"UI    {self.url}/trace/{trace_id}",
            f"API   {self.url}/api/v3/traces/{trace_id}",
            f"both  {self.url}/api/traces?service=sidegate&tags={tags}",
            "      (one search by sidegate.review_id: the call that was held, and the one that ran after the yes)",
        ]
        if not self.has_ui():
            found.append("This Jaeger was built without its UI: the first link shows a placeholder, the others work.")
        return found


def binary() -> Path | None:
    """From PATH, else from where deploy/tools.sh keeps its tools."""
    if on_path := shutil.which("jaeger"):
        return Path(on_path)
    caches = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    tools = Path(os.environ.get("SIDEGATE_CACHE") or f"{caches}/sidegate") / "tools"
    return max(tools.glob("jaeger-*/jaeger"), default=None)


def start(world: World, program: Path) -> Jaeger:
    """Start it on free ports of loopback with our configuration; links from spans lead to this demo's review port."""
    world.ports |= dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    ui = (CONFIG / "ui.json").read_text().replace("http://127.0.0.1:8902", world.url("review"))
    (world.folder / "jaeger-ui.json").write_text(ui)
    world.start(
        "jaeger",
        *(str(program), "--config", str(CONFIG / "jaeger.yaml")),
        JAEGER_UI_CONFIG=str(world.folder / "jaeger-ui.json"),
        JAEGER_OTLP_HTTP_PORT=str(world.ports["collector"]),
        JAEGER_OTLP_GRPC_PORT=str(world.ports["collector_grpc"]),
        JAEGER_QUERY_PORT=str(world.ports["jaeger"]),
        JAEGER_QUERY_GRPC_PORT=str(world.ports["jaeger_grpc"]),
        JAEGER_HEALTH_PORT=str(world.ports["jaeger_health"]),
    )
    healthy = world.url("jaeger_health") + "/status"
    world.wait("jaeger", lambda: urllib.request.urlopen(healthy, timeout=1).close())
    return Jaeger(world.url("jaeger"))


def _shown(span: dict[str, Any], processes: dict[str, Any]) -> Shown:
    parents = [r["spanID"] for r in span["references"] if r["refType"] == "CHILD_OF"]
    return Shown(
        service=processes[span["processID"]]["serviceName"],
        id=span["spanID"],
        parent=parents[0] if parents else "",
        name=span["operationName"],
        start=span["startTime"],
        milliseconds=span["duration"] / 1000,
        attributes={tag["key"]: str(tag["value"]) for tag in span["tags"]},
    )
