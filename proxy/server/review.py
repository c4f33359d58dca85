"""The review port: reviews, stop switches, status; everything authenticated by reviewers' tokens (design sections 5, 12)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web

from proxy.core import strict_json
from proxy.core.policy_input import agent_facts, timestamp
from proxy.core.review import Review, ReviewStatus
from proxy.core.reviewer import refuse_unless_operator, refuse_unless_reviewer
from proxy.errors import Code, Refusal
from proxy.model import Principal
from proxy.ports import Conversations, Reviews, TokenVerifier
from proxy.server.body import read_body
from proxy.server.rescue import json_response, rescue

MAX_COMMENT = 1000
MAX_BODY = 1 << 16  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewPort:
    """Handlers of the review port. `status` gives the figures of this process."""

    reviews: Reviews
    conversations: Conversations
    verifier: TokenVerifier
    status: Callable[[], Mapping[str, Any]]
    switches: Callable[[], Mapping[str, Any]]  # stop switches that stand, by `scope name`, as this process last heard
    unknown: Callable[[str, str], bool] = lambda _scope, _name: False  # whether the catalog has no such tool or system

    def application(self) -> web.Application:
        """All routes in one table."""
        app = web.Application(middlewares=[rescue], client_max_size=MAX_BODY)
        for method, path, handler in (
            ("GET", "/v1/reviews", self.listed),
            ("GET", "/v1/reviews/{id}", self.shown),
            ("POST", "/v1/reviews/{id}/approve", self.approve),
            ("POST", "/v1/reviews/{id}/reject", self.reject),
            ("GET", "/v1/stops", self.stops),
            ("POST", "/v1/stops", self.stop),
            ("DELETE", "/v1/stops", self.lift),
            ("GET", "/v1/status", self.shown_status),
        ):
            app.router.add_route(method, path, handler)
        return app

    async def listed(self, request: web.Request) -> web.Response:
        """Reviews that this reviewer may see, newest first; `?status=` pending by default, `all` for every one."""
        reviewer = await self._reviewer(request)
        wanted = request.query.get("status", ReviewStatus.PENDING)
        found = [r for r in await self.reviews.find() if wanted in ("all", r.status) and _may_see(reviewer, r)]
        return json_response(orjson.dumps([review_document(r, whole=False) for r in found]))

    async def shown(self, request: web.Request) -> web.Response:
        """One review whole: what will run, why it is held, what led here."""
        return json_response(orjson.dumps(review_document(await self._review(request, await self._reviewer(request)))))

    async def approve(self, request: web.Request) -> web.Response:
        """Yes: `{"digest", "comment"?}`, the digest as it was shown."""
        return await self._resolve(request, ReviewStatus.APPROVED)

    async def reject(self, request: web.Request) -> web.Response:
        """No: `{"digest"?, "comment"?}`; the comment goes back to the model."""
        return await self._resolve(request, ReviewStatus.REJECTED)

    async def stops(self, request: web.Request) -> web.Response:
        """Switches that stand: `[{"scope", "name", "by", "since"}]`, by scope and name. For operators: they name users."""
        refuse_unless_operator(await self._reviewer(request))
        standing = self.switches()
        return json_response(orjson.dumps([standing[name] for name in sorted(standing)]))

    async def stop(self, request: web.Request) -> web.Response:
        """Throw a switch: `{"scope", "name"}`."""
        return await self._switch(request, standing=True)

    async def lift(self, request: web.Request) -> web.Response:
        """Lift it again."""
        return await self._switch(request, standing=False)

    async def shown_status(self, request: web.Request) -> web.Response:
        """Revision, policies, holds, the journal's head."""
        await self._reviewer(request)
        return json_response(orjson.dumps(self.status()))

    async def _resolve(self, request: web.Request, status: ReviewStatus) -> web.Response:
        reviewer = await self._reviewer(request)
        review = await self._review(request, reviewer)
        body = await _object(request, {"digest", "comment"})
        digest, comment = body.get("digest"), body.get("comment")
        if status is ReviewStatus.APPROVED and digest is None:
            raise Refusal(
                Code.INVALID_CALL, "an approval repeats the digest that was shown", fix='send {"digest": "..."}'
            )
        refuse_unless_reviewer(reviewer, review, digest)
        resolved = await self.reviews.resolve(review.id, status, reviewer.id, comment)
        return json_response(orjson.dumps(review_document(resolved)))

    async def _switch(self, request: web.Request, *, standing: bool) -> web.Response:
        reviewer = await self._reviewer(request)
        refuse_unless_operator(reviewer)
        body = await _object(request, {"scope", "name"})
        scope, name = body.get("scope", "all"), body.get("name", "")
        switch = {"scope": scope, "name": name, "by": reviewer.id}
        await self.conversations.throw(switch, standing=standing)
        # It stands all the same: what the catalog brings later is stopped, too. But a name that is misspelt stops nothing.
        told = {"unknown": True} if self.unknown(scope, name) else {}
        return json_response(orjson.dumps(switch | {"standing": standing} | told))

    async def _reviewer(self, request: web.Request) -> Principal:
        if "origin" in request.headers:
            raise Refusal(Code.INVALID_CALL, "requests from web pages are not accepted")
        given = request.headers.getall("authorization", [])
        scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        if scheme.lower() != "bearer" or not token:
            raise Refusal(Code.UNAUTHENTICATED, "a reviewer's token is needed", fix="send Authorization: Bearer ...")
        return await self.verifier.verify(token.strip())

    async def _review(self, request: web.Request, reviewer: Principal) -> Review:
        found = await self.reviews.find(review_id=request.match_info["id"])
        if not found or not _may_see(reviewer, found[0]):
            raise Refusal(Code.UNKNOWN_CALL, "no such review")
        return found[0]


def review_document(review: Review, *, whole: bool = True) -> dict[str, Any]:
    """A review as reviewers see it: what the platform knows, and what the agent says kept apart from it."""
    document: dict[str, Any] = {
        "id": review.id,
        "status": review.status,
        "tool": review.tool,
        "principal": {"id": review.principal.id, "name": review.principal.name, "tenant": review.principal.tenant},
        "agent": agent_facts(review.agent),
        "conversation": review.conversation,
        "requested_at": timestamp(review.requested_at),
        "expires_at": timestamp(review.expires_at),
        "approvers": sorted({name for group in review.approvers for name in group}),
        "reasons": review.reasons,
    }
    if whole:
        document |= {
            "call_id": review.call_id,
            "version": review.version,
            "digest": review.digest,
            "arguments": orjson.Fragment(review.arguments),
            "arguments_masked": not review.replayable,
            "agent_says": review.reason,
            "earlier_calls": [call.facts for call in review.earlier],
            "scope": review.scope,
            "policy_revision": review.policy_revision,
            "trace_id": review.trace_id,
            "by": review.by,
            "comment": review.comment,
            "resolved_at": None if review.resolved_at is None else timestamp(review.resolved_at),
        }
    return document


def _may_see(reviewer: Principal, review: Review) -> bool:
    return review.principal.tenant is None or review.principal.tenant == reviewer.tenant


async def _object(request: web.Request, keys: set[str]) -> dict[str, str]:
    tree = strict_json.read_tree(await read_body(request, MAX_BODY) or b"{}")
    fit = isinstance(tree, dict) and tree.keys() <= keys and all(isinstance(v, str) for v in tree.values())
    if not fit or len(tree.get("comment", "")) > MAX_COMMENT:
        raise Refusal(Code.INVALID_CALL, f"the body is an object of texts: {', '.join(sorted(keys))}")
    return dict(tree)
