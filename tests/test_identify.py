"""The rows of design section 7's table, and everything that is none of them."""

from dataclasses import replace
from datetime import timedelta

import pytest

from proxy.core.conversation import IMPLICIT
from proxy.core.identity import hash_handle
from proxy.core.registry import Registered
from proxy.errors import Code, Refusal, Retry
from proxy.identify import Identify
from proxy.model import Agent, Caller, Presented, Principal, Registration
from tests.contracts.registered import MemoryConversations, NamedTokens
from tests.contracts.tokens import START, ManualClock

AGENT = Agent(namespace="shop", service_account="buyer-agent", pod="p1")
BEN = Principal(issuer="id", subject="ben", tenant="acme", roles=("buyer",))
ANN = Principal(issuer="id", subject="ann", tenant="acme", roles=("lead",))
HANDLE, ANNS_HANDLE = "b" * 43, "a" * 43


def registered(name: str, handle: str, principal: Principal, agent: Agent = AGENT) -> Registered:
    return Registered(
        conversation=name,
        handle_hash=hash_handle(handle),
        principal=principal,
        agent=agent,
        registration=Registration.CLAIMED,
        profile="day",
        turns=1,
        registered_at=START,
        expires_at=START + timedelta(hours=1),
    )


class People:
    """Ben's conversation c1 and Ann's c2, with a token for each."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.tokens = NamedTokens({"ben": BEN, "ann": ANN})
        self.store = MemoryConversations(
            {"c1": registered("c1", HANDLE, BEN), "c2": registered("c2", ANNS_HANDLE, ANN)}
        )
        self.identify = Identify(conversations=self.store, tokens=self.tokens, clock=self.clock, agent=AGENT)

    async def caller(
        self, handle: str | None = None, token: str | None = None, conversation: str | None = None
    ) -> Caller:
        return await self.identify(Presented(handle=handle, token=token, conversation=conversation))

    async def refusal(
        self, handle: str | None = None, token: str | None = None, conversation: str | None = None
    ) -> Refusal:
        with pytest.raises(Refusal) as refused:
            await self.caller(handle, token, conversation)
        return refused.value


@pytest.fixture
def people() -> People:
    return People()


BENS = Caller(agent=AGENT, principal=BEN, conversation="c1", registration=Registration.CLAIMED, profile="day")


async def test_the_handle_is_that_conversation_and_its_principal(people: People) -> None:
    assert await people.caller(handle=HANDLE) == BENS


async def test_a_token_and_an_id_are_that_principals_conversation(people: People) -> None:
    assert await people.caller(token="ben", conversation="c1") == BENS


async def test_carriers_that_agree_may_all_be_there(people: People) -> None:
    assert await people.caller(HANDLE, "ben", "c1") == BENS


async def test_nothing_is_the_agents_implicit_conversation(people: People) -> None:
    caller = await people.caller()
    assert (caller.conversation, caller.registration) == (IMPLICIT, Registration.NONE)
    assert (caller.principal.id, caller.principal.roles) == ("sidegate#anonymous", ("unknown",))


async def test_a_token_alone_is_refused_and_not_taken_for_nobody(people: People) -> None:
    refusal = await people.refusal(token="ben")
    assert (refusal.code, refusal.retry) == (Code.INVALID_CALL, Retry.AFTER_REGISTERING)
    assert "names no conversation" in refusal.message


async def test_an_id_alone_is_refused(people: People) -> None:
    assert "proves nothing" in (await people.refusal(conversation="c1")).message


async def test_another_principals_conversation_is_answered_like_one_that_is_not_there(people: People) -> None:
    people.store.known["foreign"] = registered("foreign", "f" * 43, BEN, Agent(service_account="other"))
    people.store.known["old"] = replace(registered("old", "o" * 43, ANN), expires_at=START)
    answers = [
        await people.refusal(token="ben", conversation="c2"),
        await people.refusal(token="ben", conversation="old"),
        await people.refusal(token="ben", conversation="foreign"),
        await people.refusal(token="ben", conversation="absent"),
        await people.refusal(handle="x" * 43),
        await people.refusal(handle="f" * 43),
    ]
    assert {(one.code, one.message, one.fix, str(one.details)) for one in answers} == {
        (Code.UNKNOWN_CONVERSATION, answers[0].message, answers[0].fix, "None")
    }


@pytest.mark.parametrize(
    ("handle", "token", "conversation"),
    [
        (HANDLE, None, "c2"),
        (HANDLE, None, "absent"),
        (HANDLE, "ann", None),
        (HANDLE, "ann", "c1"),
        (HANDLE, "ben", "c2"),
        (ANNS_HANDLE, "ben", "c1"),
        (ANNS_HANDLE, "ben", "c2"),
    ],
)
async def test_carriers_that_name_different_principals_or_conversations_are_refused(
    people: People, handle: str, token: str | None, conversation: str | None
) -> None:
    assert (await people.refusal(handle, token, conversation)).code == Code.CONFLICTING_CONVERSATION


async def test_a_token_that_is_presented_must_be_good_even_beside_a_good_handle(people: People) -> None:
    for handle, conversation in ((HANDLE, None), (None, "c1"), (HANDLE, "c1")):
        assert (await people.refusal(handle, "forged", conversation)).code == Code.UNAUTHENTICATED


async def test_a_user_in_another_tenant_does_not_get_the_conversation_of_the_first(people: People) -> None:
    people.tokens.principals["ben"] = replace(BEN, tenant="other")
    for handle in (HANDLE, None):
        assert (await people.refusal(handle, "ben", "c1")).code == Code.CONFLICTING_CONVERSATION


async def test_past_its_end_a_conversation_is_expired_for_its_own_principal(people: People) -> None:
    people.clock.move(3599)
    assert await people.caller(handle=HANDLE) == BENS
    people.clock.move(1)
    for presented in ((HANDLE, None, None), (None, "ben", "c1"), (HANDLE, "ben", "c1")):
        refusal = await people.refusal(*presented)
        assert (refusal.code, refusal.retry) == (Code.CONVERSATION_EXPIRED, Retry.AFTER_REGISTERING)


async def test_roles_are_those_of_the_token_where_there_is_one_and_of_the_last_registration_else(
    people: People,
) -> None:
    people.tokens.principals["ben"] = replace(BEN, roles=("trainee",))
    assert (await people.caller(token="ben", conversation="c1")).principal.roles == ("trainee",)
    assert (await people.caller(HANDLE, "ben")).principal.roles == ("trainee",)
    assert (await people.caller(HANDLE)).principal.roles == ("buyer",)
    people.store.known["c1"] = registered("c1", HANDLE, replace(BEN, roles=("lead",)))
    assert (await people.caller(HANDLE)).principal.roles == ("lead",)


async def test_a_conversation_outlives_the_pod_and_its_caller_is_the_pod_that_calls(people: People) -> None:
    people.store.known["c1"] = registered("c1", HANDLE, BEN, replace(AGENT, pod="earlier"))
    assert (await people.caller(HANDLE)).agent == AGENT
