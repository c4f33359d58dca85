"""The one place where a Refusal becomes an HTTP response."""

import logging
from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web

from proxy.core import strict_json
from proxy.errors import Code, Refusal
from proxy.model import Answer, Dialect
from proxy.wire.batch import Batch
from proxy.wire.dialects import DIALECTS

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_log = logging.getLogger(__name__)


@web.middleware
async def rescue(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every fault of a handler with a JSON document that has a stable code."""
    try:
        return await handler(request)
    except Refusal as refusal:
        return refused(refusal)
    except web.HTTPRequestEntityTooLarge as e:
        return refused(too_large(e.max_size if hasattr(e, "max_size") else None))
    except web.HTTPException as e:
        return refused(
            Refusal(Code.INVALID_CALL, f"{e.reason.lower()}: there is no such route for {request.method}"), e.status
        )
    except Exception:  # noqa: BLE001 - the last net: whatever broke, the caller gets a code and the next call works
        _log.exception("a handler failed")
        return refused(Refusal(Code.INTERNAL_ERROR, "Sidegate failed to handle this request"))


def refused(refusal: Refusal, status: int | None = None) -> web.Response:
    """A refusal outside any tool call."""
    document = {
        "refusal": {
            "code": refusal.code,
            "message": refusal.message,
            "ran": refusal.ran,
            "retry": refusal.retry,
            **({"fix": refusal.fix} if refusal.fix else {}),
            **({"review": refusal.review_id} if refusal.review_id else {}),
            **({"approvers": refusal.approvers} if refusal.approvers else {}),
        }
    }
    return json_response(strict_json.write(document), status=status or refusal.status, headers=_retry_after(refusal))


def answered(answers: Sequence[Answer], batch: Batch) -> web.Response:
    """The answers of one body in its dialect. Only a single native call has its refusal's status; a model reads a result."""
    refusal = answers[0].refusal if len(answers) == 1 else None
    own = batch.dialect is Dialect.NATIVE and not batch.many and refusal is not None
    headers = {
        "x-sidegate-call-id": ",".join(answer.call_id for answer in answers),
        "x-sidegate-decision": ",".join("none" if a.decision is None else a.decision for a in answers),
    }
    if answers:
        headers["traceparent"] = answers[0].trace.traceparent
    body = DIALECTS[batch.dialect].render(answers, batch)
    if own and refusal is not None:
        return json_response(body, status=refusal.status, headers=headers | _retry_after(refusal))
    return json_response(body, headers=headers)


def json_response(body: bytes, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """JSON that no cache keeps."""
    return web.Response(
        body=body,
        status=status,
        content_type="application/json",
        headers={"cache-control": "no-store", **(headers or {})},
    )


async def unnamed(_: web.Request, response: web.StreamResponse) -> None:
    """Signal `on_response_prepare`: which libraries answer is nobody's business."""
    response.headers["server"] = "sidegate"


def too_large(limit: int | None) -> Refusal:
    """A body over the limit; names the setting, not the content."""
    bound = f" of {limit} bytes" if limit else ""
    return Refusal(Code.TOO_LARGE, f"the body is over the limit{bound}", fix="send less, or raise limits.body_bytes")


def _retry_after(refusal: Refusal) -> dict[str, str]:
    return {} if refusal.retry_after is None else {"retry-after": str(refusal.retry_after)}
