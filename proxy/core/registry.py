"""Registered conversations (design section 7)."""

from dataclasses import dataclass
from datetime import datetime

from proxy.model import Agent, Principal, Registration


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A conversation bound to its principal and agent. `handle_hash` is SHA-256 of the handle, hex. `turns` counts texts.

    After `expires_at` it is a tombstone: the same principal may refresh it, and its labels are never lost.
    """

    conversation: str
    handle_hash: str
    principal: Principal
    agent: Agent
    registration: Registration
    profile: str | None = None
    turns: int = 0
    registered_at: datetime
    expires_at: datetime
