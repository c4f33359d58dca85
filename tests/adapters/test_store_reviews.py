"""Reviews of the embedded store when the disk fails."""

from pathlib import Path

from proxy.core.review import ReviewStatus
from proxy.errors import Code
from tests.adapters.embedded_rig import Rig
from tests.contracts.store_kit import hold, refusing, register
from tests.contracts.store_values import checked, review, tool

PRICES = tool("get_prices", labels=["prices"])


async def test_an_answer_that_is_not_on_disk_is_given_to_nobody(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    async with rig.opened() as store:
        who, what = await register(store), checked(PRICES)
        asked = await hold(store, who, what)
        rig.flush_fails = True
        with refusing(Code.AUDIT_UNAVAILABLE):
            await store.reviews.resolve(asked.id, ReviewStatus.APPROVED, "rita", None)
        rig.flush_fails = False
        with refusing(Code.AUDIT_UNAVAILABLE):
            await store.reviews.outcome(asked.id, 1)
        with refusing(Code.AUDIT_UNAVAILABLE):
            await store.reviews.request(review("call", who, what))


async def test_a_hold_that_is_not_on_disk_is_refused_and_the_sweep_goes_on(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    async with rig.opened() as store:
        who = await register(store)
        rig.flush_fails = True
        with refusing(Code.AUDIT_UNAVAILABLE):
            await hold(store, who, checked(PRICES))
        rig.flush_fails = False
        rig.clock.advance(3600)
        assert await store.reviews.expire() == 1
        assert await store.reviews.expire() == 0
