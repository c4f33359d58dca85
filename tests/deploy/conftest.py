"""Fixtures of the tests of deploy/tools.sh and of the charts."""

import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.deploy.cluster import Cluster, running
from tests.deploy.machine import COMMANDS, Machine, Releases


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A real API server, one for all tests: whoever uses it makes namespaces of their own."""
    with running(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine with the plain commands, and neither Go, Python nor OPA."""
    (tmp_path / "bin").mkdir()
    for name in COMMANDS:
        found = shutil.which(name)
        assert found is not None or name in {"flock", "timeout"}, f"{name} is needed by these tests"
        if found is not None:
            (tmp_path / "bin" / name).symlink_to(found)
    return Machine(root=tmp_path)


@pytest.fixture
def releases(machine: Machine) -> Iterator[Releases]:
    served = Releases()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked.append(self.path)
            body = served.files.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        served.url = f"http://127.0.0.1:{server.server_port}"
        machine.environment["SIDEGATE_TOOLS_BASE_URL"] = served.url
        yield served
        server.shutdown()
        thread.join()
