"""The agent port: tool calls, held calls, definitions, conversations (design section 5). Every route also under /c/{handle}."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from proxy.core import limits, strict_json
from proxy.core.hold import hold_refusal
from proxy.core.identity import conflicting, present
from proxy.core.policy_input import visible_input
from proxy.core.review import Review, ReviewStatus
from proxy.core.tool import Snapshot, Tool
from proxy.errors import Code, Refusal
from proxy.model import Caller, Dialect, Presented, ToolCall, UnreadableCall
from proxy.pipeline import Pipeline
from proxy.register import Registrar
from proxy.server.body import read_body
from proxy.server.rescue import answered, json_response, rescue
from proxy.wire import dialects
from proxy.wire.batch import Batch, Definition
from proxy.wire.common import read_arguments

MAX_WAIT = 60.0
PORTION = (
    400  # tools asked about at once: a quarter of what OPA answers within its usual deadline (measured: 0.12 ms each)
)
SHOWN_KEPT = 1000
LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentPort:
    """Handlers of the agent port over one pipeline."""

    pipeline: Pipeline
    registrar: Registrar
    body_bytes: int
    note: Callable[[Mapping[str, Any]], object]  # writes a record to the journal; raises Refusal audit_unavailable
    hosts: frozenset[str] | None  # names under which the port may be addressed; None for a unix socket
    shown: dict[tuple[str, str, str], tuple[str, str]] = field(default_factory=dict)  # what was last shown to whom

    def application(self) -> web.Application:
        """All routes in one table."""
        app = web.Application(middlewares=[rescue], client_max_size=self.body_bytes)
        routes = [
            ("POST", "/v1/tool-calls", self.tool_calls),
            ("GET", "/v1/tool-calls/{id}", self.state),
            ("POST", "/v1/tool-calls/{id}/resume", self.resume),
            ("POST", "/v1/tool-calls/{id}/result", self.result),
            ("GET", "/v1/tools", self.tools),
            ("PUT", "/v1/conversations/{id}", self.register),
            ("POST", "/v1/conversations/{id}/requests", self.add_request),
        ]
        for method, path, handler in routes:
            app.router.add_route(method, path, handler)
            app.router.add_route(method, "/c/{handle}" + path, handler)
        return app

    async def tool_calls(self, request: web.Request) -> web.Response:
        """What the model produced, in any dialect; the answer is what the agent appends next."""
        presented, refusal = self._presented(request)
        try:
            if refusal is not None:
                raise refusal
            batch = dialects.parse(await self._body(request), request.query.get("dialect"))
        except Refusal as unread:
            batch = _unreadable(unread)
        answers = await self.pipeline.handle_all(batch.items, presented, patient=not batch.many)
        return answered(answers, batch)

    async def state(self, request: web.Request) -> web.Response:
        """State of a held call; `?wait=` seconds for it to change."""
        review = await self._held(request)
        wait = _wait(request.query.get("wait"))
        if wait and review.status is ReviewStatus.PENDING:
            review = await self.pipeline.reviews.outcome(review.id, wait, live=False)
        document = {"call_id": review.call_id, "id": review.tool_call_id, "tool": review.tool, "review": review.id}
        return json_response(strict_json.write(document | {"status": review.status, "trace_id": review.trace_id}))

    async def resume(self, request: web.Request) -> web.Response:
        """Run an approved call without asking the model to repeat itself. It is a new call, decided anew."""
        review = await self._held(request)
        if review.status is not ReviewStatus.APPROVED:
            raise hold_refusal(review)
        call = self.pipeline.held.get(review.id) or _rebuilt(review)
        presented = self._named(request)
        answers = await self.pipeline.handle_all([call], presented, resumes=review.call_id)
        return answered(answers, Batch(dialect=call.dialect, items=(call,), many=False))

    async def result(self, request: web.Request) -> web.Response:
        """The agent's own result of a call handed over to it: `{"handle", "result"}`."""
        self._refuse_browsers(request)
        tree = strict_json.read_tree(await self._body(request))
        if not isinstance(tree, dict) or tree.keys() != {"handle", "result"} or not isinstance(tree["handle"], str):
            raise Refusal(Code.INVALID_CALL, 'a report is {"handle": "...", "result": ...}')
        body = strict_json.write(tree["result"])
        answer = await self.pipeline.report(request.match_info["id"], tree["handle"], body)
        return answered([answer], Batch(dialect=answer.call.dialect, items=(answer.call,), many=False))

    async def tools(self, request: web.Request) -> web.Response:
        """The definitions that this principal may use, ready for a model request."""
        wire = dialects.named(request.query.get("dialect", Dialect.NATIVE))
        presented = self._named(request)
        place = self.pipeline.gate.enter()
        try:
            caller = await self.pipeline.identify(presented)
            place.give_to(caller.principal.id)
            snapshot = self.pipeline.snapshots.current()
            tools = await visible_tools(self.pipeline, snapshot, caller, presented)
        finally:
            place.leave()
        body = wire.definitions([_definition(tool) for tool in tools])
        digest = hashlib.sha256(body).hexdigest()
        self._note_shown(
            {
                "kind": "shown",
                "conversation": caller.conversation,
                "principal": {"id": caller.principal.id, "name": caller.principal.name},
                "dialect": wire.DIALECT,
                "tools": len(tools),
                "digest": digest,
                "revision": snapshot.revision,
            }
        )
        etag = f'"{digest[:32]}"'
        if request.headers.get("if-none-match") == etag:
            return web.Response(status=304, headers={"etag": etag})
        return json_response(body, headers={"etag": etag})

    async def register(self, request: web.Request) -> web.Response:
        """Bind a conversation to its user; answers the handle, once."""
        presented, name = self._named(request), request.match_info["id"]
        if presented.conversation not in (None, name):
            raise conflicting("the path and the request name two conversations")
        body = await self._body(request) if request.can_read_body else b"{}"
        handle, registered = await self.registrar.register(name, presented.token, body, handle=presented.handle)
        document = {
            "conversation": registered.conversation,
            "handle": handle,
            "registration": registered.registration,
            "expires_at": registered.expires_at.isoformat(),
        }
        return json_response(strict_json.write(document))

    async def add_request(self, request: web.Request) -> web.Response:
        """A later turn of the user."""
        presented = self._named(request)
        registered = await self.registrar.add_request(request.match_info["id"], presented, await self._body(request))
        return json_response(strict_json.write({"conversation": registered.conversation, "turn": registered.turns}))

    def _note_shown(self, record: Mapping[str, Any]) -> None:
        """On record when it is new: an agent asks before each turn, and anybody may ask as fast as it goes."""
        whom = (record["conversation"], record["principal"]["id"], record["dialect"])
        what = (record["digest"], record["revision"])
        if self.shown.pop(whom, None) != what:
            self.note(record)
        self.shown[whom] = what
        if len(self.shown) > SHOWN_KEPT:
            del self.shown[next(iter(self.shown))]

    def _presented(self, request: web.Request) -> tuple[Presented, Refusal | None]:
        """What the request brings, or why it is not even looked at (kept apart, since a refused call is recorded, too)."""
        try:
            self._refuse_browsers(request)
            pairs = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers)
            return present(pairs, request.match_info.get("handle")), None
        except Refusal as refusal:
            return Presented(), refusal

    def _named(self, request: web.Request) -> Presented:
        presented, refusal = self._presented(request)
        if refusal is not None:
            raise refusal
        return presented

    def _refuse_browsers(self, request: web.Request) -> None:
        # A web page that the user visits must not reach the loopback port: by its origin, or by rebinding a name to it.
        if "origin" in request.headers:
            raise Refusal(
                Code.INVALID_CALL, "requests from web pages are not accepted", fix="call from the agent's process"
            )
        host = request.headers.get("host", "")
        if self.hosts is not None and (host.rpartition(":")[0] or host) not in self.hosts:
            raise Refusal(Code.INVALID_CALL, "the host header does not name this port", fix="address it as configured")

    async def _body(self, request: web.Request) -> bytes:
        if request.headers.get("content-encoding", "identity") != "identity":
            raise Refusal(Code.INVALID_CALL, "compressed bodies are not accepted", fix="send the body as it is")
        if request.content_type != "application/json":
            raise Refusal(Code.INVALID_CALL, "the content type must be application/json")
        if (request.charset or "utf-8").lower() != "utf-8":
            raise Refusal(Code.INVALID_CALL, "the charset must be utf-8")
        return await read_body(request, self.body_bytes)

    async def _held(self, request: web.Request) -> Review:
        caller = await self.pipeline.identify(self._named(request))
        for review in await self.pipeline.reviews.find(call_id=request.match_info["id"]):
            if review.conversation == caller.conversation and caller.registered:
                return review
        raise limits.unknown_call()


async def visible_tools(pipeline: Pipeline, snapshot: Snapshot, caller: Caller, presented: Presented) -> Sequence[Tool]:
    """The tools that policy lets this principal see, in the catalog's order. Asked in portions that OPA answers in time."""
    tools = [tool for tool in snapshot.catalog.tools.values() if tool.quarantined is None]
    seen: set[str] = set()
    for begin in range(0, len(tools), PORTION):
        portion = tools[begin : begin + PORTION]
        seen |= await pipeline.policy.visible(visible_input(caller, portion, pipeline.clock.now()), presented.trace)
    return [tool for tool in tools if tool.name in seen]


def _definition(tool: Tool) -> Definition:
    newest = tool.versions[0]
    return Definition(
        name=tool.name, description=tool.description, version=newest.version, schema=newest.arguments_schema
    )


def _unreadable(refusal: Refusal) -> Batch:
    item = UnreadableCall(id="", tool="", dialect=Dialect.NATIVE, refusal=refusal)
    return Batch(dialect=Dialect.NATIVE, items=(item,), many=False)


def _rebuilt(review: Review) -> ToolCall:
    """The held call from its record, after a restart. A call with secrets cannot be: they were never written down."""
    if not review.replayable:
        raise Refusal(
            Code.UNKNOWN_CALL,
            "this call has secret arguments, which do not outlive a restart",
            fix="send exactly the same call again; the approval still stands",
        )
    tree = strict_json.read_tree(review.arguments, "arguments")
    return ToolCall(
        id=review.tool_call_id,
        tool=review.tool,
        version=review.version,
        arguments=read_arguments(tree, text_allowed=False),
        dialect=review.dialect,
        reason=review.reason,
    )


def _wait(given: str | None) -> float:
    if given is None:
        return 0.0
    try:
        seconds = float(given)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= MAX_WAIT:
        raise Refusal(Code.INVALID_CALL, f"`wait` must be 0 to {MAX_WAIT:.0f} seconds")
    return seconds
