"""A row that we have not written there, or that has gone back, is refused; the script does all of its commands or none."""

from pathlib import Path

import pytest

from proxy.adapters.store_valkey_link import Link
from proxy.adapters.store_valkey_rows import FOREIGN, FORMAT, Seal
from proxy.adapters.store_valkey_talks import FRESH
from proxy.adapters.store_valkey_troubles import why
from proxy.errors import Code, Refusal
from tests.adapters.valkey_rig import KEY, LATER, Pods, pods_on_server, row_of_format
from tests.contracts.store_kit import refusing, register, run
from tests.contracts.store_values import checked, tool

STOCK = tool("get_stock", labels=["quantities"])
SEAL = Seal(KEY, "test")
NAME = SEAL.name("talk", "one")


def test_a_row_opens_where_it_was_written_and_nowhere_else() -> None:
    """Another key, version, body, prefix or secret is another row."""
    row = SEAL.row(NAME, 7, {"a": 1})
    assert SEAL.opened(NAME, row) == (7, {"a": 1})
    other = Seal(b"o" * 32, "test")
    for seal, name, changed in (
        (SEAL, SEAL.name("talk", "two"), row),
        (SEAL, NAME, row.replace(b"7 ", b"8 ", 1)),
        (SEAL, NAME, row.replace(b'"a":1', b'"a":2')),
        (SEAL, NAME, b"7 " + row.split(b" ", 2)[2]),
        (SEAL, NAME, b""),
        (SEAL, NAME, b"\xff \xff \xff"),
        (SEAL, NAME, b"9" * 30 + row),
        (other, NAME, row),
    ):
        with refusing(Code.STATE_UNAVAILABLE):
            seal.opened(name, changed)


def test_a_row_says_its_version_and_format_and_is_sealed_by_plain_hmac() -> None:
    """As the module says it, so that anybody with the key can check one."""
    assert SEAL.row(NAME, 7, {"a": 1}).decode() == row_of_format(FORMAT, NAME.decode(), 7, '{"a":1}')


def test_a_row_of_another_format_is_refused_by_a_sentence_that_names_both_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is ours, all the same; one that only says so is not."""
    row = row_of_format(LATER, NAME.decode(), 7, '{"a":1}').encode()
    for _ in range(2):
        with pytest.raises(Refusal) as found:
            SEAL.opened(NAME, row)
        assert found.value.code is Code.STATE_UNAVAILABLE
        assert why(found.value) == (
            f"a row of the shared store is of format {LATER}, and this version of Sidegate reads format {FORMAT}: "
            "give all pods the same version"
        )
    assert len(caplog.records) == 1
    assert SEAL.ours(NAME, row)
    forged = SEAL.row(NAME, 7, {"a": 1}).replace(b"7 %d " % FORMAT, b"7 %d " % LATER, 1)
    with pytest.raises(Refusal) as found:
        SEAL.opened(NAME, forged)
    assert (why(found.value), SEAL.ours(NAME, forged)) == (FOREIGN, False)


def test_a_value_that_is_not_what_we_write_refuses() -> None:
    """Of our format, and sealed: then it is a fault of a version of ours, and no crash."""
    for fault in (KeyError("x"), TypeError("x"), ValueError("x"), AttributeError("x"), IndexError("x")):
        with refusing(Code.STATE_UNAVAILABLE), SEAL.reading(NAME):
            raise fault


def test_a_row_that_has_gone_back_is_refused() -> None:
    with refusing(Code.STATE_UNAVAILABLE):
        SEAL.opened(NAME, SEAL.row(NAME, 7, {}), least=8)


async def _tampered(pods: Pods, change: str) -> None:
    """One conversation with a label, another clean one, and a row changed by somebody on the server."""
    async with pods.pod() as store:
        who = await register(store, "one")
        before = pods.server.command("GET", SEAL.name("talk", "one").decode())
        await run(store, who, checked(STOCK))
        clean = await register(store, "two")
        await run(store, clean, checked(STOCK))
    one, two = SEAL.name("talk", "one").decode(), SEAL.name("talk", "two").decode()
    if change == "swapped":
        pods.server.command("COPY", two, one, "REPLACE")
    elif change == "forged":
        pods.server.command("SET", one, '99 00 {"conversation": {}}')
    elif change == "shapeless":
        pods.server.command("SET", one, "nonsense")
    elif change == "version 0":
        pods.server.command("SET", one, "0 00 {}")
    async with pods.pod() as store:
        with refusing(Code.STATE_UNAVAILABLE):
            await store.calls.reserve("c", who, checked(STOCK))
        await store.calls.reserve("d", clean, checked(STOCK))
    assert before


@pytest.mark.parametrize("change", ["swapped", "forged", "shapeless", "version 0"])
async def test_a_forged_or_swapped_row_refuses_its_conversation_and_no_other(
    tmp_path: Path, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And the log says so."""
    async with pods_on_server(tmp_path) as pods:
        await _tampered(pods, change)
    assert "was not written by us" in caplog.text


async def test_an_old_row_that_is_put_back_is_refused_by_who_has_seen_a_newer_one(tmp_path: Path) -> None:
    """Rolling back would make a conversation clean again. So would taking the row away."""
    async with pods_on_server(tmp_path) as pods, pods.pod() as store:
        who, name = await register(store, "one"), SEAL.name("talk", "one").decode()
        pods.server.command("COPY", name, "kept")
        await run(store, who, checked(STOCK))
        for words in (("COPY", "kept", name, "REPLACE"), ("DEL", name)):
            pods.server.command(*words)
            pods.clock.advance(FRESH)
            with refusing(Code.STATE_UNAVAILABLE):
                await store.conversations.conversation(conversation_id="one")
            with refusing(Code.STATE_UNAVAILABLE):
                await store.calls.reserve("c", who, checked(STOCK))


async def test_a_guard_that_does_not_hold_leaves_all_as_it_was(tmp_path: Path) -> None:
    """The newer row is told, and no command was done."""
    async with pods_on_server(tmp_path) as pods:
        link = Link(pods.settings, KEY)
        await link.open()
        key, other = link.seal.name("x"), link.seal.name("y")
        row = link.seal.row(key, 1, {})
        assert (await link.run([(key, "0")], [("SET", key, row)])).done
        answer = await link.run([(key, "0")], [("SET", other, "written")])
        assert (answer.done, answer.rows) == (False, [row])
        assert (await link.run([(key, "1")], [("GET", other)])).replies == [None]
        await link.close()


async def test_a_command_that_fails_refuses(tmp_path: Path) -> None:
    """A key of another type, put there by somebody."""
    async with pods_on_server(tmp_path) as pods, pods.pod() as store:
        who = await register(store, "one")
        pods.server.command("SET", store.link.seal.name("calls", "a").decode(), "a string")
        with refusing(Code.STATE_UNAVAILABLE):
            await store.calls.reserve("c", who, checked(STOCK))
        with pytest.raises(Refusal):
            await store.pods.sign_off()
