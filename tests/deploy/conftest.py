"""Fixtures of the tests of deploy/tools.sh and of the charts."""

import shutil
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tests.contracts.threaded_server import Answer, threaded
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

    def answer(request: BaseHTTPRequestHandler) -> Answer:
        served.asked.append(request.path)
        body = served.files.get(request.path)
        return 404 if body is None else 200, {}, body or b""

    with threaded(answer) as served.url:
        machine.environment["SIDEGATE_TOOLS_BASE_URL"] = served.url
        yield served
