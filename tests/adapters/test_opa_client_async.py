"""The asynchronous client alone is imported, and nobody else's import of its package suffers."""

import subprocess
import sys

import pytest


def said(code: str) -> str:
    """What a fresh interpreter prints."""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return run.stdout.strip()


def test_a_serving_process_has_neither_requests_nor_protobuf_nor_grpc() -> None:
    """They come when they are used: `requests` never, the others with an exporter of spans."""
    code = "import sys, proxy.cli.serve; print(sorted({'requests', 'google.protobuf', 'grpc'} & set(sys.modules)))"
    assert said(code) == "[]"


@pytest.mark.parametrize("order", ["import opa_client\n{ours}", "{ours}\nimport opa_client"])
def test_the_whole_package_can_be_imported_before_and_after(order: str) -> None:
    """The client has the interface of the package's own."""
    ours = "from proxy.adapters.opa_client_async import AsyncOpaClient as Ours"
    checks = "print(Ours.__module__, dir(Ours) == dir(opa_client.AsyncOpaClient), opa_client.OpaClient.__name__)"
    assert said(order.format(ours=ours) + "\n" + checks) == "opa_client.opa_async True OpaClient"
