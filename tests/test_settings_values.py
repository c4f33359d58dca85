"""Values of settings that say more than they hold."""

from pathlib import Path

import pytest

from proxy.adapters.opa_transport import split_address
from proxy.settings import Limits, Listen, Opa


@pytest.mark.parametrize(
    ("listen", "address", "loopback"),
    [
        (Listen(host="127.0.0.1", port=1), "127.0.0.1:1", True),
        (Listen(host="::1", port=2), "[::1]:2", True),
        (Listen(host="localhost", port=3), "localhost:3", True),
        (Listen(path=Path("/run/agent.sock")), "unix:/run/agent.sock", True),
        (Listen(host="0.0.0.0", port=4), "0.0.0.0:4", False),
        (Listen(host="127.0.0.2.example", port=5), "127.0.0.2.example:5", False),
    ],
)
def test_a_listener_names_its_address_and_knows_whether_others_reach_it(
    listen: Listen, address: str, loopback: bool
) -> None:
    assert (listen.address, listen.loopback) == (address, loopback)


@pytest.mark.parametrize(
    ("address", "endpoint"),
    [
        ("unix:///run/opa.sock", "unix:///run/opa.sock"),
        ("http://127.0.0.1:8181", "127.0.0.1:8181"),
        ("http://[::1]:8181/", "[::1]:8181"),
    ],
)
def test_opas_address_is_one_that_the_client_takes(address: str, endpoint: str) -> None:
    assert Opa(address=address).endpoint == endpoint
    assert split_address(endpoint)[2] == 8181


def test_limits_of_holds_are_those_of_the_settings() -> None:
    limits = Limits(
        holds_per_conversation=1, holds_per_principal=2, holds_per_agent=3, holds=4, new_holds_per_hour=5, rejections=6
    )
    held = limits.of_holds()
    assert (held.conversation, held.principal, held.agent, held.total) == (1, 2, 3, 4)
    assert (held.new_per_hour, held.rejections) == (5, 6)
