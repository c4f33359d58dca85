"""What principals have done today is the sum of what all pods have written, and nobody without the key can lower it."""

import asyncio
import itertools
import re
from pathlib import Path

import pytest

from proxy.adapters.store_valkey import SharedStore
from proxy.adapters.store_valkey_rows import Seal
from proxy.adapters.store_valkey_tallies import CALLS, Tallies, added, sealed_for, together
from proxy.errors import Code
from proxy.model import Caller
from tests.adapters.valkey_rig import KEY, looked_twice, pods_on_server
from tests.contracts.store_kit import refusing, register, run
from tests.contracts.store_values import NOON, caller, checked, fresh, intent, refused, terminal, tool
from tests.e2e.redis_server import RedisServer

STOCK = checked(tool("get_stock"))
DAY = NOON.date().isoformat()
SEAL = Seal(KEY, "test")
ADA = (DAY, caller("x").principal.id)


def hash_of(who: str = "ada", day: str = DAY) -> str:
    return SEAL.name("tally", f"{day} {caller('x', who).principal.id}").decode()


async def counted(store: SharedStore, who: Caller) -> int:
    """How many calls the principal is said to have made, by a call that leaves nothing."""
    call = fresh("call")
    facts = await store.calls.reserve(call, who, STOCK)
    await store.calls.settle(terminal(call, who, STOCK, facts, **refused()), durable=False)
    return facts.history.principal_counters.get("calls", 0)


async def test_two_pods_that_count_at_once_lose_nothing(tmp_path: Path) -> None:
    """One user in ten conversations, ten calls in each, half of them through the other pod."""
    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a, pods.pod("b") as b:
        callers = [await register(a) for _ in range(10)]
        stores = itertools.cycle((a, b))
        await asyncio.gather(*(run(next(stores), who, STOCK) for who in callers * 10))
        assert [await counted(store, callers[0]) for store in (a, b)] == [100, 100]


async def test_calls_under_way_in_another_pod_count_until_they_are_refused(tmp_path: Path) -> None:
    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a, pods.pod("b") as b:
        one, two = await register(a), await register(b)
        facts = [await a.calls.reserve(f"c{n}", one, STOCK) for n in range(3)]
        assert await counted(b, two) == 3
        await a.calls.commit(intent("c0", one, STOCK, facts[0]), durable=False)
        for n in range(1, 3):
            await a.calls.settle(terminal(f"c{n}", one, STOCK, facts[n], **refused()), durable=False)
        assert await counted(b, two) == 1


async def test_what_a_pod_has_counted_another_takes_back(tmp_path: Path) -> None:
    """Its share goes below zero, and the sum is right, also for who comes next."""
    async with pods_on_server(tmp_path) as pods, pods.pod("b") as b:
        async with pods.pod("a") as a:
            who = await register(a)
            await run(a, who, STOCK)
            await a.calls.reserve("left", who, STOCK)
            pods.server.command("DEL", SEAL.name("lease", "a").decode())
            await looked_twice(b)
            assert await counted(b, who) == 1
        async with pods.pod("a") as a:
            assert await counted(a, who) == 1


async def test_a_pod_that_starts_again_goes_on_from_its_own_share(tmp_path: Path) -> None:
    async with pods_on_server(tmp_path) as pods:
        for number in range(3):
            async with pods.pod() as store:
                who = await register(store)
                assert await counted(store, who) == number
                await run(store, who, STOCK)


async def test_a_call_over_midnight_is_of_the_day_it_began_and_is_given_back_there(tmp_path: Path) -> None:
    async with pods_on_server(tmp_path) as pods, pods.pod() as store:
        who = await register(store)
        facts = await store.calls.reserve("c", who, STOCK)
        pods.clock.advance(12 * 3600)
        await store.calls.commit(intent("c", who, STOCK, facts), durable=False)
        assert await counted(store, who) == 1
        shares = [pods.server.command("HGET", hash_of(day=day), "a").split(b"\r\n")[1] for day in (DAY, "2026-11-26")]
        assert [share.split(b" ", 3)[3] for share in shares] == [b"{}", b'{"calls":1}']


async def test_a_call_is_counted_when_it_is_reserved_and_not_written_again(tmp_path: Path) -> None:
    """Its commit has nothing to add, nor has its end: one write of the share for each call."""
    async with pods_on_server(tmp_path) as pods, pods.pod() as store:
        who = await register(store)
        for number in (1, 2):
            await run(store, who, STOCK)
            share = pods.server.command("HGET", hash_of(), "a").split(b"\r\n")[1].split(b" ", 3)
            assert (share[0], share[3]) == (b"%d" % number, b'{"calls":%d}' % number)


async def test_a_call_costs_three_round_trips(tmp_path: Path) -> None:
    """Also where several pods have shares."""

    def trips(server: RedisServer) -> int:
        found = re.search(rb"cmdstat_evalsha:calls=(\d+)", server.command("INFO", "commandstats"))
        return int(found[1]) if found else 0

    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a, pods.pod("b") as b:
        who = await register(a)
        for store in (a, b, a):
            await run(store, who, STOCK)
        before = trips(pods.server)
        await run(a, who, STOCK)
        assert trips(pods.server) - before == 3


def test_no_two_shares_are_sealed_for_the_same_name() -> None:
    """A principal's name may hold a slash, and anybody can put a field of any name."""
    names = {
        sealed_for(SEAL.name("tally", f"{DAY} {who}"), pod)
        for who, pod in (("a/b", b"c"), ("a", b"b/c"), ("a", b"b/c/1"))
    }
    assert len(names | {sealed_for(SEAL.name("tally", f"{DAY} a/b/c"), b"1")}) == 4


TAMPERED = {
    "lowered": "was not written by us",
    "of another day": "was not written by us",
    "of another user": "was not written by us",
    "of another pod": "was not written by us",
    "shapeless": "was not written by us",
    "a pod that nobody knows": "was not written by us",
    "gone back": "has gone back",
    "gone": "is gone",
    "all gone": "is gone",
}


def tamper(server: RedisServer, how: str, before: str) -> None:
    """What somebody with a connection to the server does."""
    key = hash_of()
    row = server.command("HGET", key, "a").split(b"\r\n")[1].decode()
    other = server.command("HGET", hash_of("ben") if "user" in how else hash_of(day="2026-11-24"), "a")
    change = {
        "lowered": ("HSET", key, "a", row.replace('"calls":2', '"calls":0')),
        "of another day": ("HSET", key, "a", other.split(b"\r\n")[-2].decode()),
        "of another user": ("HSET", key, "a", other.split(b"\r\n")[-2].decode()),
        "of another pod": ("HSET", key, "a", server.command("HGET", key, "b").split(b"\r\n")[1].decode()),
        "shapeless": ("HSET", key, "a", "nonsense"),
        "a pod that nobody knows": ("HSET", key, "ghost", row),
        "gone back": ("HSET", key, "a", before),
        "gone": ("HDEL", key, "a"),
        "all gone": ("DEL", key),
    }[how]
    assert not server.command(*change).startswith(b"-")


@pytest.mark.parametrize("how", TAMPERED)
async def test_a_count_that_somebody_has_changed_is_refused(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names the row; other users go on; what was refused is not counted."""
    async with pods_on_server(tmp_path) as pods, pods.pod("b") as b:
        async with pods.pod("a") as a:
            pods.clock.advance(-86400)
            await run(a, await register(a), STOCK)
            pods.clock.advance(86400)
            ada, ben = await register(a), await register(a, who="ben")
            await run(a, ada, STOCK)
            before = pods.server.command("HGET", hash_of(), "a").split(b"\r\n")[1].decode()
            await run(a, ada, STOCK)
            await run(a, ben, STOCK)
            assert await counted(b, ada) == 2
        tamper(pods.server, how, before)
        for _ in range(2):
            with refusing(Code.STATE_UNAVAILABLE):
                await counted(b, ada)
        assert TAMPERED[how] in caplog.text
        assert await counted(b, ben) == 1


async def test_a_pod_s_own_share_that_somebody_has_changed_is_refused_or_written_over(tmp_path: Path) -> None:
    """It knows its own: what is put in its place is seen, unless the next write puts it right."""
    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a:
        who = await register(a)
        await run(a, who, STOCK)
        old = pods.server.command("HGET", hash_of(), "a").split(b"\r\n")[1].decode()
        await run(a, who, STOCK)
        row = pods.server.command("HGET", hash_of(), "a").split(b"\r\n")[1].decode()
        pods.server.command("HSET", hash_of(), "a", row.replace('"calls":2', '"calls":0'))
        assert await counted(a, who) == 2
        for words in (("HSET", hash_of(), "a", old), ("DEL", hash_of())):
            pods.server.command(*words)
            with refusing(Code.STATE_UNAVAILABLE):
                await counted(a, who)


async def test_users_that_were_forgotten_are_known_again(tmp_path: Path) -> None:
    """Memory is bounded; the server tells what this pod had written."""
    tallies = Tallies(SEAL, "a", remembered=2)
    written = tallies.write({ADA: {"calls": 1}}, None)
    written.done([1, 1])
    for number in range(3):
        tallies.write({(DAY, str(number)): {"calls": 1}}, None)
    row = written.commands[0][3]
    assert isinstance(row, bytes)
    again = tallies.write({ADA: {"calls": 1}}, None)
    assert again.guards[0][1] == "@a 0"
    again.failed([row])
    assert tallies.write({ADA: {"calls": 1}}, None).guards[0][1] == "@a 1"


def test_a_write_that_failed_takes_those_behind_it_with_it_and_they_are_done_anew() -> None:
    """Two under way, and the first one's conversation had changed: each is told once where to go on."""
    tallies = Tallies(SEAL, "a")
    first, second = (tallies.write({ADA: {"calls": 1}}, ADA) for _ in range(2))
    assert [w.guards[0][1] for w in (first, second)] == ["@a 0", "@a 1"]
    first.failed([b""])
    anew = tallies.write({ADA: {"calls": 1}}, ADA)
    second.failed([None])
    assert anew.guards[0][1] == "@a 0"
    last = tallies.write({ADA: {"calls": 1}}, ADA)
    assert last.guards[0][1] == "@a 1"
    rows = [word for command in (*anew.commands, *last.commands) if command[0] == "HSET" for word in command[3:]]
    assert anew.done([1, 1, [b"a", rows[0]]]) == {"calls": 1}
    assert last.done([0, [b"a", rows[1]]]) == {"calls": 2}


def test_a_write_of_which_nobody_knows_is_found_out_by_the_next() -> None:
    """Taken to be there; the guard fails if it is not, and the server tells."""
    tallies = Tallies(SEAL, "a")
    tallies.write({ADA: {"calls": 1}}, None)  # and no answer
    second = tallies.write({ADA: {"calls": 1}}, None)
    second.failed([None])
    third = tallies.write({ADA: {"calls": 1}}, ADA)
    assert third.guards[0][1] == "@a 0"
    assert third.done([1, 1, [b"a", b"as written"]]) == {"calls": 1}


def test_changes_add_up_without_zeros() -> None:
    ben = (DAY, "ben")
    assert added({CALLS: 1, "rows": 1}, {CALLS: -1, "bytes": -2}) == {"rows": 1, "bytes": -2}
    assert together({ADA: {CALLS: -1}}, {ADA: {CALLS: 1}, ben: {CALLS: 1}}) == {ADA: {}, ben: {CALLS: 1}}
