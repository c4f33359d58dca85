"""Port FactSource: whose a record is, by GET on an upstream. A look-up that failed never looks like "nobody's"."""

import asyncio
from typing import Any

from proxy.adapters.credentials import Credential, Credentials, CredentialUnavailableError
from proxy.adapters.http_exchange import FaultError, HttpExchange, Outbound, request_headers
from proxy.core import strict_json
from proxy.core.http_request import HttpRequest, path
from proxy.core.tool import ResourceSource
from proxy.errors import Code, Refusal
from proxy.model import Resource, Response, SpanContext

_SECONDS = 1.0
_CAP = 64 * 1024  # bytes of one answer


class HttpFacts:
    """Facts about records from HTTP upstreams, over the same connections, bulkheads and breakers as tools."""

    def __init__(self, exchange: HttpExchange, credentials: Credentials, *, seconds: float = _SECONDS) -> None:
        self._exchange = exchange
        self._credentials = credentials
        self._seconds = seconds

    async def resource(self, source: ResourceSource, argument: str, record_id: str, trace: SpanContext) -> Resource:
        """One look-up, no retry. 404 means nobody's. Raises Refusal facts_unavailable, and invalid_arguments for an id that no
        path can hold: sent again unchanged it fails again."""
        if source.upstream.kind != "http":
            raise _unavailable(source, "its fact source is not HTTP")
        try:
            target = _target(source, argument, record_id)
            credential = self._credentials.get(source.upstream.credential)
            answer = await self._exchange.send(self._outbound(source, target, trace, credential))
        except CredentialUnavailableError as e:
            raise _unavailable(source, "the credential for it is not available", str(e)) from None
        except FaultError as fault:
            raise _unavailable(source, "the look-up failed", str(fault)) from None
        if credential is not None and credential.echoed_in(answer.body):
            raise _unavailable(source, "the answer contained a credential")
        owner, tenant = _whose(source, answer)
        return Resource(argument=argument, type=source.type, id=record_id, owner=owner, tenant=tenant)

    def _outbound(
        self, source: ResourceSource, target: str, trace: SpanContext, credential: Credential | None
    ) -> Outbound:
        return Outbound(
            upstream=source.upstream,
            request=HttpRequest(method="GET", target=target),
            headers=request_headers("application/json", trace, credential),
            cap=_CAP,
            deadline=asyncio.get_running_loop().time() + self._seconds,
        )


def _target(source: ResourceSource, argument: str, record_id: str) -> str:
    try:
        return path(source.path, {"id": record_id})
    except Refusal as refusal:
        if refusal.code is not Code.INVALID_ARGUMENTS:
            raise _unavailable(source, "its id cannot be looked up", refusal.message) from None
        message = f"{argument} names no {source.type}: an id must not be empty nor hold a '.' or '..' as a part"
        raise Refusal(Code.INVALID_ARGUMENTS, message, fix=f"change {argument} to the id of a {source.type}") from None


def _whose(source: ResourceSource, answer: Response) -> tuple[str | None, str | None]:
    if answer.status == 404:
        return None, None
    if answer.status != 200:
        raise _unavailable(source, "the look-up failed", f"HTTP status {answer.status}")
    try:
        tree = strict_json.read_tree(answer.body, "answer")
    except Refusal as refusal:
        raise _unavailable(source, "the answer was not acceptable JSON", refusal.message) from None
    return _text(source, tree, source.owner), _text(source, tree, source.tenant)


def _text(source: ResourceSource, tree: Any, dotted: str | None) -> str | None:
    if dotted is None:
        return None
    value = tree
    for key in dotted.split("."):
        if not isinstance(value, dict) or key not in value:
            raise _unavailable(source, "the answer lacks a field", dotted)  # as if it had moved: not the same as null
        value = value[key]
    if value is None:
        return None
    text = strict_json.number_token(value) or value
    if not isinstance(text, str) or not text:
        raise _unavailable(source, "a field is neither text nor number", dotted)
    return text


def _unavailable(source: ResourceSource, why: str, problem: str | None = None) -> Refusal:
    message = f"whose {source.type} this is could not be found out: {why}"
    return Refusal(Code.FACTS_UNAVAILABLE, message, details=None if problem is None else {"problem": problem})
