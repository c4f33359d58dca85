"""Odd answers of a policy service, made from a seed, and which calls it really allowed."""

import asyncio
import copy
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.core.broken_decisions import OF_EACH_TYPE
from tests.e2e.stub_opa import StubOpa, respond, say

REVIEW = {"combination": [{"code": "together", "message": "look at it", "approvers": ["sourcing-leads"]}]}
OTHER = {"combination": [{"code": "apart", "approvers": ["sourcing-leads"]}]}  # no approval of a REVIEW covers it
DENY = {"grants": [{"code": "no"}]}


@dataclass(slots=True)
class OddOpa:
    """Takes over a stub's answers. `odd` on, two of three are odd; else one in ten wants a review. `told`: what each call
    was told, the last time it was asked about."""

    stub: StubOpa
    rng: random.Random
    odd: bool = False
    told: dict[str, str] = field(default_factory=dict)
    said: Counter[str] = field(default_factory=Counter)

    def attach(self) -> None:
        self.stub.misbehave = self.answer

    def switch(self, on: bool) -> None:
        self.odd = on

    async def answer(self, writer: asyncio.StreamWriter, decision: dict[str, Any]) -> None:
        document = self.stub.asked.pop()
        if "call" not in document:  # which tools may be seen
            say(writer, {"result": []})
            return
        kind = "allow"
        if self.odd and self.rng.random() < 2 / 3:
            kind = self.rng.choice(tuple(ODD))
        elif self.rng.random() < 0.1 and document["approval"] is None:
            kind = "review"
        self.said[kind] += 1
        self.told[document["call"]["id"]] = kind
        if kind in ODD:
            await ODD[kind](writer, decision, self.rng)
        else:
            say(writer, {"result": decision | ({"effect": "review", "review": REVIEW} if kind == "review" else {})})


def _body(decision: dict[str, Any]) -> bytes:
    return json.dumps({"result": decision}).encode()


async def _wrong_type(writer: asyncio.StreamWriter, decision: dict[str, Any], rng: random.Random) -> None:
    key = rng.choice([key for key in decision if key != "effect"])
    value = rng.choice([v for v in OF_EACH_TYPE if _differs(v, decision[key])])
    say(writer, {"result": decision | {key: value, "effect": "allow"}})


def _differs(one: Any, other: Any) -> bool:
    """Whether it is no value of this key. An empty object is one of every object, and `x` is another revision."""
    return type(one) is not type(other) or (one not in ({}, []) and one != other)


async def _missing(writer: asyncio.StreamWriter, decision: dict[str, Any], rng: random.Random) -> None:
    broken = copy.deepcopy(decision)
    del broken[rng.choice(list(broken))]
    say(writer, {"result": broken})


async def _deny_beside(writer: asyncio.StreamWriter, decision: dict[str, Any], rng: random.Random) -> None:
    say(
        writer, {"result": decision | rng.choice(({"deny": DENY}, {"guards": ["x"]}, {"allow": {}}, {"review": OTHER}))}
    )


async def _deny(writer: asyncio.StreamWriter, decision: dict[str, Any], rng: random.Random) -> None:
    say(writer, {"result": decision | {"effect": "deny", "deny": DENY}})


async def _revision(writer: asyncio.StreamWriter, decision: dict[str, Any], rng: random.Random) -> None:
    say(writer, {"result": decision | {"revision": rng.randbytes(8).hex()}})


async def _truncated(writer: asyncio.StreamWriter, decision: dict[str, Any], rng: random.Random) -> None:
    body = _body(decision)
    respond(writer, body[: rng.randrange(len(body))], length=len(body))
    writer.close()


async def _mangled(writer: asyncio.StreamWriter, decision: dict[str, Any], rng: random.Random) -> None:
    body = bytearray(_body(decision))
    del body[rng.randrange(len(body)) :]  # a whole HTTP answer with half a document
    respond(writer, bytes(body))


async def _huge(writer: asyncio.StreamWriter, decision: dict[str, Any], rng: random.Random) -> None:
    respond(writer, _body(decision | {"warn": {"x": {"x": "y" * (2 << 20)}}}))


async def _status(writer: asyncio.StreamWriter, decision: dict[str, Any], rng: random.Random) -> None:
    status = rng.choice(("500 Error", "404 Not Found", "307 Temporary Redirect", "204 No Content", "201 Created"))
    respond(writer, _body(decision), status=status, more="location: /v1/data\r\n")


async def _media_type(writer: asyncio.StreamWriter, decision: dict[str, Any], rng: random.Random) -> None:
    respond(writer, _body(decision), media_type=rng.choice(("text/html", "text/plain", "application/xml")))


async def _silent(writer: asyncio.StreamWriter, decision: dict[str, Any], rng: random.Random) -> None:
    return


async def _late(writer: asyncio.StreamWriter, decision: dict[str, Any], rng: random.Random) -> None:
    await asyncio.sleep(0.6)  # beyond the deadline
    say(writer, {"result": decision})


async def _closed(writer: asyncio.StreamWriter, decision: dict[str, Any], rng: random.Random) -> None:
    writer.close()


async def _garbage(writer: asyncio.StreamWriter, decision: dict[str, Any], rng: random.Random) -> None:
    writer.write(rng.randbytes(64))


async def _twice(writer: asyncio.StreamWriter, decision: dict[str, Any], rng: random.Random) -> None:
    """A surplus answer must not answer the next call. In one write: what comes apart from it no HTTP client can tell."""
    both = b"".join(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        for body in (_body(decision | {"effect": "deny", "deny": DENY}), _body(decision))
    )
    writer.write(both)


ODD: dict[str, Callable[[asyncio.StreamWriter, dict[str, Any], random.Random], Any]] = {
    "wrong type": _wrong_type,
    "missing key": _missing,
    "contradiction": _deny_beside,
    "deny": _deny,
    "another revision": _revision,
    "cut connection": _truncated,
    "half a document": _mangled,
    "huge": _huge,
    "status": _status,
    "media type": _media_type,
    "silent": _silent,
    "late": _late,
    "closed": _closed,
    "garbage": _garbage,
    "two answers": _twice,
}
