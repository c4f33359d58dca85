"""What is wrong with a server is a sentence for the operator, and nothing of it reaches the model."""

import socket
import ssl

import hiredis
import pytest

from proxy.adapters.store_valkey_troubles import not_connected, refused_by_server, serves_no_more, why
from proxy.errors import Code


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (socket.gaierror(-2, "x"), "the name of its host is not known"),
        (ssl.SSLError(1, "x"), "it does not speak TLS there, or none that is safe"),
        (ConnectionRefusedError(111, "x"), "nobody listens there"),
        (ConnectionResetError(104, "x"), "the connection was closed"),
        (FileNotFoundError(2, "x"), "there is no such socket"),
        (TimeoutError(), "no answer in time"),
        (OSError(113, "No route to host"), "No route to host"),
    ],
)
def test_a_connection_that_fails_is_said_by_its_cause(error: OSError, sentence: str) -> None:
    assert why(not_connected(error)) == f"cannot connect: {sentence}"


def test_an_error_reply_is_said_by_its_first_word_alone() -> None:
    """The rest may hold addresses, or what we have sent."""
    refusal = refused_by_server(hiredis.ReplyError("MOVED 3999 10.9.8.7:6381"))
    assert refusal.code is Code.STATE_UNAVAILABLE
    assert why(refusal) == "the server answers MOVED: another node of its cluster has our keys: name that one"
    assert "MOVED" not in refusal.message
    assert why(refused_by_server(hiredis.ReplyError(f"{'X' * 99} y"))) == f"the server answers {'X' * 32}"


@pytest.mark.parametrize(("word", "expected"), [("READONLY", True), ("LOADING", True), ("OOM", False), ("BUSY", False)])
def test_a_new_connection_is_made_where_another_server_may_be_by_now(word: str, expected: bool) -> None:
    assert serves_no_more(hiredis.ReplyError(f"{word} text")) is expected
