"""Values survive the way through JSON."""

from dataclasses import replace
from datetime import timedelta

import orjson

from proxy.core.review import ReviewStatus
from proxy.core.state_json import (
    registered_from_json,
    registered_to_json,
    review_from_json,
    review_to_json,
)
from proxy.earlier import EarlierCall, Outcome
from proxy.model import Agent, Principal, Registration
from tests.contracts.store_values import NOON, caller, checked, registered, review, tool

ADA = Principal(
    issuer="i",
    subject="ada",
    name="Ada",
    tenant="t",
    roles=("buyer", "lead"),
    attributes={"region": {"eu": [1, 2.5, None]}},
    actors=("bot",),
    authenticated_at=NOON + timedelta(microseconds=7),
    expires_at=NOON + timedelta(hours=1),
)


def test_a_review_comes_back_as_it_was_with_every_digit_of_its_arguments() -> None:
    earlier = EarlierCall(seq=1, tool="t", system="s", effect="read", labels=("l",), outcome=Outcome.UNKNOWN)
    made = review(
        "call",
        caller("talk"),
        checked(tool("get_prices")),
        principal=ADA,
        agent=Agent(spiffe_id="spiffe://a/b"),
        arguments=b'{"z":1.10,"a":18446744073709551617,"e":1E400,"s":"\\u00e9"}',
        earlier=(earlier,),
        approvers=(("a", "b"), ("c",)),
        status=ReviewStatus.APPROVED,
        by="rita",
        comment="ok",
        resolved_at=NOON + timedelta(minutes=1),
        uses=3,
    )
    assert review_from_json(orjson.loads(orjson.dumps(review_to_json(made)))) == made
    pending = replace(made, status=ReviewStatus.PENDING, by=None, comment=None, resolved_at=None, uses=0)
    assert review_from_json(orjson.loads(orjson.dumps(review_to_json(pending)))) == pending


def test_a_registered_conversation_comes_back_as_it_was_whatever_stands_beside_it() -> None:
    made = registered(
        "talk", principal=ADA, registration=Registration.ATTESTED, profile="careful", turns=9, quoted=True
    )
    row = orjson.loads(orjson.dumps({"kind": "registered", "seq": 4, **registered_to_json(made)}))
    assert registered_from_json(row) == made
    del row["quoted"]
    assert registered_from_json(row) == replace(made, quoted=False), "a row of before"
