"""A server is asked for each setting that keeps state; what it does not tell, and what it tells otherwise, is a sentence."""

import hiredis
import pytest

from proxy.adapters.store_valkey_connection import Reply
from proxy.adapters.store_valkey_fit import NEEDED, StoreSettingError, not_as_needed, refuse_unfit, told
from proxy.errors import Code
from tests.contracts.store_kit import refusing

FIT = {name: wanted for name, (wanted, _) in NEEDED.items()}


class Server:
    """Answers CONFIG GET."""

    def __init__(self, **answers: Reply) -> None:
        self.answers = {**FIT, **{name.replace("_", "-"): answer for name, answer in answers.items()}}

    async def ask(self, *words: str | bytes | int) -> Reply:
        answer = self.answers[str(words[2])]
        return [str(words[2]).encode(), answer.encode()] if isinstance(answer, str) else answer


async def test_one_that_is_set_up_right_is_taken() -> None:
    await refuse_unfit(Server().ask)


async def test_all_that_is_set_otherwise_is_said_at_once() -> None:
    with pytest.raises(StoreSettingError) as found:
        await refuse_unfit(Server(appendonly="no", maxmemory_policy="allkeys-lru").ask)
    assert str(found.value).count("the store runs without") == 2
    assert not_as_needed("appendfsync", "always") == []


@pytest.mark.parametrize("answer", [hiredis.ReplyError("NOPERM no"), hiredis.ReplyError("ERR unknown"), [], None])
async def test_one_that_does_not_tell_is_not_taken(answer: Reply) -> None:
    server = Server(appendfsync=answer)
    assert await told(server.ask, "appendfsync") is None
    with pytest.raises(StoreSettingError, match="CONFIG GET appendfsync"):
        await refuse_unfit(server.ask)


async def test_one_that_cannot_serve_refuses() -> None:
    with refusing(Code.STATE_UNAVAILABLE):
        await refuse_unfit(Server(appendonly=hiredis.ReplyError("LOADING data")).ask)
