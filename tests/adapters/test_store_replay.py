"""Whatever happens, memory is the replayed journal, and so is what starts again from checkpoint and journal."""

import asyncio
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.adapters.store_embedded import EmbeddedStore
from proxy.core.review import ReviewStatus
from proxy.errors import Code, Refusal
from tests.adapters.embedded_rig import Rig, whole
from tests.contracts.store_kit import hold, register, run, spend
from tests.contracts.store_values import caller, checked, intent, refused, registered, tool

STOCK = tool("get_stock", labels=["quantities"])
MAIL = tool("read_mail", system="mail", trusted=False)
TALKS = ("talk-0", "talk-1", "talk-2", "~implicit")
Op = tuple[int, int]


async def act(store: EmbeddedStore, op: Op) -> None:
    """Something that a pipeline, a reviewer or an operator could do; many are refused."""
    kind, which = op
    name, what = TALKS[which % 4], checked(MAIL if which % 3 else STOCK, f"digest-{which % 2}")
    who = caller(name)
    actions: list[Callable[[], Any]] = [
        lambda: store.conversations.register(registered(name, turns=which)),
        lambda: run(store, who, what),
        lambda: run(store, who, what, ending={"ok": False, "code": Code.TOOL_FAILED, "counters": {"rows": which}}),
        lambda: run(store, who, what, ending=refused()),
        lambda: hold(store, who, what, scope="conversation" if which % 5 == 0 else "once"),
        lambda: answer(store, which),
        lambda: use(store, which),
        lambda: store.conversations.throw({"scope": "tool", "name": "mail", "by": "o"}, standing=bool(which % 2)),
        store.reviews.expire,
        lambda: store.calls.reserve(f"left-{which}", who, what),
        store.log.save,
        lambda: begin(store, name, which),
    ]
    with suppress(Refusal):
        await actions[kind % len(actions)]()


async def begin(store: EmbeddedStore, name: str, which: int) -> None:
    """A call that does not end."""
    who, what, call = caller(name), checked(STOCK), f"begun-{store.log.state.seq}-{which}"
    facts = await store.calls.reserve(call, who, what)
    await store.calls.commit(intent(call, who, what, facts), durable=bool(which % 2))


async def answer(store: EmbeddedStore, which: int) -> None:
    found = await store.reviews.find()
    if found:
        status = ReviewStatus.APPROVED if which % 3 else ReviewStatus.REJECTED
        await store.reviews.resolve(found[which % len(found)].id, status, "rita", None)


async def use(store: EmbeddedStore, which: int) -> None:
    found = [each for each in await store.reviews.find() if each.status is ReviewStatus.APPROVED]
    if found:
        approved = found[which % len(found)]
        what = checked(MAIL, approved.digest)
        await spend(store, caller(approved.conversation), what, approved)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(ops=st.lists(st.tuples(st.integers(0, 59), st.integers(0, 59)), max_size=40))
def test_after_anything_memory_journal_and_checkpoint_tell_the_same(tmp_path: Path, ops: list[Op]) -> None:
    for folder in ("a", "b"):
        shutil.rmtree(tmp_path / folder, ignore_errors=True)
    first = Rig(tmp_path / "a")

    async def play() -> None:
        async with first.opened(in_memory=1) as store:
            for name in TALKS[:2]:
                await register(store, name)
            for op in ops:
                await act(store, op)
            expected = whole(store.log.state, TALKS)
            assert whole(first.replayed(), TALKS) == expected
            async with first.as_after_a_crash(tmp_path / "b").opened() as again:
                assert whole(again.log.state, TALKS) == expected

    asyncio.run(play())
