"""Values of the state as JSON and back: what journal records and checkpoints carry. Times are RFC 3339, agents objects."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from proxy.core.registry import Registered
from proxy.core.review import Review, ReviewStatus
from proxy.earlier import EarlierCall, Outcome
from proxy.model import Agent, Dialect, Principal, Registration

Json = dict[str, Any]


def review_to_json(review: Review) -> Json:
    """All fields of a review. `arguments` is a string that holds the JSON text: read back as a JSON value it would lose
    digits of numbers and the order of keys, and `resume` sends these very bytes."""
    return {
        "id": review.id,
        "call_id": review.call_id,
        "digest": review.digest,
        "conversation": review.conversation,
        "principal": principal_to_json(review.principal),
        "agent": agent_to_json(review.agent),
        "tool": review.tool,
        "version": review.version,
        "entry": review.entry,
        "dialect": review.dialect.value,
        "tool_call_id": review.tool_call_id,
        "arguments": review.arguments.decode(),
        "replayable": review.replayable,
        "reason": review.reason,
        "reasons": review.reasons,
        "approvers": [list(group) for group in review.approvers],
        "scope": review.scope,
        "earlier": list(review.earlier),
        "policy_revision": review.policy_revision,
        "trace_id": review.trace_id,
        "requested_at": review.requested_at.isoformat(),
        "expires_at": review.expires_at.isoformat(),
        "status": review.status.value,
        "by": review.by,
        "comment": review.comment,
        "resolved_at": _time_to_json(review.resolved_at),
        "uses": review.uses,
    }


def review_from_json(found: Mapping[str, Any]) -> Review:
    """The review of `review_to_json`. Raises KeyError, ValueError, TypeError."""
    given = dict(found)
    given["principal"] = principal_from_json(found["principal"])
    given["agent"] = agent_from_json(found["agent"])
    given["dialect"] = Dialect(found["dialect"])
    given["arguments"] = found["arguments"].encode()
    given["approvers"] = tuple(tuple(group) for group in found["approvers"])
    given["earlier"] = tuple(earlier_from_json(call) for call in found["earlier"])
    given["requested_at"] = datetime.fromisoformat(found["requested_at"])
    given["expires_at"] = datetime.fromisoformat(found["expires_at"])
    given["status"] = ReviewStatus(found["status"])
    given["resolved_at"] = time_from_json(found["resolved_at"])
    return Review(**given)


def registered_to_json(registered: Registered) -> Json:
    """All fields of a registered conversation."""
    return {
        "conversation": registered.conversation,
        "handle_hash": registered.handle_hash,
        "principal": principal_to_json(registered.principal),
        "agent": agent_to_json(registered.agent),
        "registration": registered.registration.value,
        "profile": registered.profile,
        "turns": registered.turns,
        "quoted": registered.quoted,
        "registered_at": registered.registered_at.isoformat(),
        "expires_at": registered.expires_at.isoformat(),
    }


def registered_from_json(found: Mapping[str, Any]) -> Registered:
    """The value of `registered_to_json`; keys that are not its own are left out. Raises KeyError, ValueError, TypeError."""
    return Registered(
        conversation=found["conversation"],
        handle_hash=found["handle_hash"],
        principal=principal_from_json(found["principal"]),
        agent=agent_from_json(found["agent"]),
        registration=Registration(found["registration"]),
        profile=found["profile"],
        turns=found["turns"],
        quoted=found.get("quoted", False),  # rows and records of before do not say
        registered_at=datetime.fromisoformat(found["registered_at"]),
        expires_at=datetime.fromisoformat(found["expires_at"]),
    )


def principal_to_json(principal: Principal) -> Json:
    """All fields of a principal, and its id for those who read the journal."""
    return {
        "id": principal.id,
        "issuer": principal.issuer,
        "subject": principal.subject,
        "name": principal.name,
        "tenant": principal.tenant,
        "roles": list(principal.roles),
        "attributes": principal.attributes,
        "actors": list(principal.actors),
        "authenticated_at": _time_to_json(principal.authenticated_at),
        "expires_at": _time_to_json(principal.expires_at),
    }


def principal_from_json(found: Mapping[str, Any]) -> Principal:
    """The principal of `principal_to_json`."""
    return Principal(
        issuer=found["issuer"],
        subject=found["subject"],
        name=found["name"],
        tenant=found["tenant"],
        roles=tuple(found["roles"]),
        attributes=found["attributes"],
        actors=tuple(found["actors"]),
        authenticated_at=time_from_json(found["authenticated_at"]),
        expires_at=time_from_json(found["expires_at"]),
    )


def agent_to_json(agent: Agent) -> Json:
    """All fields of an agent."""
    return {
        "namespace": agent.namespace,
        "service_account": agent.service_account,
        "pod": agent.pod,
        "spiffe_id": agent.spiffe_id,
    }


def agent_from_json(found: Mapping[str, Any]) -> Agent:
    """The agent of `agent_to_json`."""
    return Agent(**found)


def earlier_from_json(found: Mapping[str, Any] | EarlierCall) -> EarlierCall:
    """An earlier call as orjson has written it, or as it was before that."""
    if isinstance(found, EarlierCall):
        return found
    return EarlierCall(**{**found, "labels": tuple(found["labels"]), "outcome": Outcome(found["outcome"])})


def time_from_json(text: str | None) -> datetime | None:
    """A time, or none."""
    return None if text is None else datetime.fromisoformat(text)


def _time_to_json(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
