"""Sends bodies to the running sidecar in every shape and gathers what was said, what arrived and what was recorded."""

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.e2e.rig import Rig
from tests.suites.bfcl.shapes import SHAPES, Said, answers, request, shown
from tests.suites.bfcl.work import Body, conversations

AT_ONCE = 12  # conversations in flight, each with one body at a time

Key = tuple[str, str]  # shape, call id


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What the journal says of one call."""

    code: str | None
    digest: str | None
    effect: str | None
    ran: str


async def send(rig: Rig, bodies: Sequence[Body], round_name: str) -> dict[Key, Said]:
    """Every body in every shape, each shape in conversations of its own, the shapes at the same time."""
    said: dict[Key, Said] = {}
    parts = enumerate(conversations(bodies))
    waiting = iter([(shape, n, part) for n, part in parts for shape in SHAPES])

    async def worker() -> None:
        for shape, n, part in waiting:
            handle = await rig.register(f"{round_name}.{shape}.{n}")
            for body in part:
                said.update(await _answered(rig, handle, shape, body))

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(worker())
    return said


async def definitions(rig: Rig) -> dict[str, dict[str, Any]]:
    """Shape -> tool name -> schema, as a model is shown them."""
    headers = {"x-sidegate-conversation": await rig.register("definitions")}
    found = {}
    for shape in SHAPES:
        url = f"{rig.url('agent')}/v1/tools?dialect={shape}"
        async with rig.session.get(url, headers=headers) as response:
            found[shape] = shown(shape, json.loads(await response.read()))
    return found


def recorded(rig: Rig) -> dict[Key, Recorded]:
    """Shape and call id -> its records, from the journal of a sidecar that has ended. A second terminal record of a call is an
    error."""
    effects: dict[str, str] = {}
    found: dict[Key, Recorded] = {}
    for record in _records(rig):
        if "decision" in record:
            effects[record["call"]] = record["decision"]["effect"]
        if record["kind"] != "terminal":
            continue
        key = (record["dialect"], record["tool_call"])
        if key in found:
            raise AssertionError(f"two terminal records of {key}")
        found[key] = Recorded(
            code=record["code"],
            digest=record["digest"],
            effect=effects.pop(record["call"], None),
            ran=record["ran"],
        )
    return found


async def _answered(rig: Rig, handle: str, shape: str, body: Body) -> Mapping[Key, Said]:
    status, document = await rig.post("/v1/tool-calls", request(shape, body), handle)
    try:
        said = answers(shape, document)
    except (KeyError, TypeError, AttributeError):
        raise AssertionError(f"{shape}: not an answer ({status}): {str(document)[:500]}") from None
    if list(said) != [call.id for call in body]:
        raise AssertionError(f"{shape}: answers to {list(said)} instead of {[call.id for call in body]}")
    return {(shape, call_id): one for call_id, one in said.items()}


def _records(rig: Rig) -> Iterator[dict[str, Any]]:
    """Records of calls, one at a time: a run leaves hundreds of megabytes."""
    for path in sorted((rig.folder / "state" / "journal").glob("*.jsonl")):
        with path.open("rb") as lines:
            read = (json.loads(line) for line in lines if line.strip(b"\0\n"))
            yield from (record for record in read if record.get("kind") in ("intent", "terminal"))
