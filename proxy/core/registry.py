"""Registered conversations (design section 7)."""

import re
from dataclasses import dataclass, replace
from datetime import datetime

from proxy.errors import Code, Refusal
from proxy.model import Agent, Principal, Registration

_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A conversation bound to its principal and agent. `handle_hash` is SHA-256 of the handle, hex. `turns` counts texts;
    `quoted`: whether a turn so far has brought something quoted, which is untrusted text.

    After `expires_at` it is a tombstone: the same principal may refresh it, and its labels are never lost.
    """

    conversation: str
    handle_hash: str
    principal: Principal
    agent: Agent
    registration: Registration
    profile: str | None = None
    turns: int = 0
    quoted: bool = False
    registered_at: datetime
    expires_at: datetime


def bound(known: Registered | None, wanted: Registered, now: datetime) -> Registered:
    """A registration as it is kept beside the one that is `known`: `turns` never falls, the first `registered_at` stays.

    Raises Refusal invalid_call, conversation_expired, conflicting_conversation (another user's, another agent's).
    """
    check_id(wanted.conversation)
    if wanted.expires_at <= now:
        raise Refusal(Code.CONVERSATION_EXPIRED, "the token has expired", fix="register with a new token")
    if known is None:
        return wanted
    if known.principal.id != wanted.principal.id:
        raise Refusal(Code.CONFLICTING_CONVERSATION, "this conversation id belongs to another user")
    if workload(known.agent) != workload(wanted.agent):
        raise Refusal(Code.CONFLICTING_CONVERSATION, "this conversation id belongs to another agent")
    return replace(
        wanted,
        turns=max(known.turns, wanted.turns),
        quoted=known.quoted or wanted.quoted,
        registered_at=known.registered_at,
    )


def check_id(conversation: str) -> None:
    """Raise Refusal invalid_call unless it can be a conversation's id."""
    if _ID.fullmatch(conversation) is None:
        raise Refusal(
            Code.INVALID_CALL,
            "a conversation id has 1 to 128 of A-Z a-z 0-9 . _ -",
            fix="use an id of these characters",
        )


def handle_taken() -> Refusal:
    """The refusal for a handle that another conversation has."""
    return Refusal(Code.CONFLICTING_CONVERSATION, "this handle belongs to another conversation")


def workload(agent: Agent) -> tuple[str | None, str | None, str | None]:
    """An agent but for its pod: there are many of one agent, and one may be replaced while a conversation goes on."""
    return agent.namespace, agent.service_account, agent.spiffe_id
