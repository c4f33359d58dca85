"""Registering a conversation, its later turns, and the rules for the user's text (design section 7)."""

import asyncio
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Protocol
from weakref import WeakValueDictionary

from proxy.core import strict_json
from proxy.core.attestation import Attestation, check_attestation
from proxy.core.claims import refused
from proxy.core.identity import (
    conflicting,
    hash_handle,
    refuse_other_principal,
    same_workload,
)
from proxy.core.registry import Registered, check_id
from proxy.errors import Code, Refusal
from proxy.identify import Identify
from proxy.model import Presented, Principal, Registration

MAX_AGE = 12 * 3600.0  # seconds that a registration lasts whose token has no end
_FIELDS = frozenset({"text", "quoted", "profile", "attestation"})
_PROFILE = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Attestations(Protocol):
    """Verifies that an application key vouches for a text."""

    async def attest(self, jws: str) -> Attestation:
        """The claims of a compact JWS. Raises Refusal unauthenticated."""
        ...

    def spend(self, attestation: Attestation) -> None:
        """Use it up. Raises Refusal unauthenticated if it has been used before."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What the application says of one turn: the user's own words, what is quoted in them (pasted, attached: the conversation
    counts as having read untrusted text from then on), and who vouches for it."""

    text: str | None = None
    quoted: str | None = None
    profile: str | None = None
    attestation: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Registrar:
    """Registers conversations. With `attestations` (setting `registration: attested`) text and profile count only if signed.

    `max_age` in seconds. `mint` makes handles of 256 random bits; only their hash is kept.
    """

    identify: Identify
    attestations: Attestations | None = None
    max_age: float = MAX_AGE
    mint: Callable[[], str] = lambda: secrets.token_urlsafe(32)
    _locks: WeakValueDictionary[str, asyncio.Lock] = field(init=False, repr=False, default_factory=WeakValueDictionary)

    async def register(
        self, conversation_id: str, token: str | None, body: bytes, *, handle: str | None = None
    ) -> tuple[str, Registered]:
        """Bind a conversation to the token's principal, or refresh it: new roles and end, labels kept. Answers its handle.

        A refresh that presents the conversation's `handle` keeps it; any other gets a new one, and the old one ends.
        Raises Refusal unauthenticated, conflicting_conversation, invalid_call, invalid_json, and what the store raises.
        """
        check_id(conversation_id)
        turn = read_turn(body)
        if token is None:
            raise refused("registering a conversation needs the token of its user")
        principal = await self.identify.tokens.verify(token)
        async with self._one_at_a_time(conversation_id):
            before = await self.identify.conversations.conversation(conversation_id=conversation_id)
            if before is not None:
                self._refuse_foreign(before, principal)
            if handle is not None and (before is None or before.handle_hash != hash_handle(handle)):
                raise conflicting("the handle belongs to another conversation, or has been replaced")
            kept = self.mint() if handle is None else handle
            draft = self._draft(conversation_id, kept, principal, before)
            return kept, await self._store(draft, turn, before)

    async def add_request(self, conversation_id: str, presented: Presented, body: bytes) -> Registered:
        """Add a later turn of the user, by the handle, or by the token. Raises as `register`, and as Identify."""
        check_id(conversation_id)
        turn = read_turn(body)
        if turn.text is None and turn.quoted is None:
            raise Refusal(Code.INVALID_CALL, "a request needs text or quoted", fix="send the user's words as text")
        if presented.conversation not in (None, conversation_id):
            raise conflicting("the path and the request name two conversations")
        if presented.handle is None and presented.token is None:
            raise refused("adding a request needs the conversation's handle or the token of its user")
        caller = await self.identify(replace(presented, conversation=conversation_id))
        async with self._one_at_a_time(conversation_id):
            before = await self.identify.conversations.conversation(conversation_id=conversation_id)
            if before is None:
                raise conflicting("the conversation is gone")
            self._refuse_foreign(before, caller.principal)
            return await self._store(before, turn, before)

    def _draft(self, conversation_id: str, handle: str, principal: Principal, before: Registered | None) -> Registered:
        now = self.identify.clock.now()
        expires_at = principal.expires_at or now + timedelta(seconds=self.max_age)
        if expires_at <= now:
            raise refused("the token has expired")
        return Registered(
            conversation=conversation_id,
            handle_hash=hash_handle(handle),
            principal=principal,
            agent=self.identify.agent,
            registration=Registration.CLAIMED,  # unless `_store` sees that somebody vouches for it
            profile=None if before is None else before.profile,
            turns=0 if before is None else before.turns,
            quoted=before is not None and before.quoted,
            registered_at=now if before is None else before.registered_at,
            expires_at=expires_at,
        )

    async def _store(self, draft: Registered, turn: Turn, before: Registered | None) -> Registered:
        if before is not None and turn.profile not in (None, before.profile):
            raise conflicting("the conversation is registered with another profile")
        turns = draft.turns + (turn.text is not None)
        await self._vouch(draft, turn, turns, first=before is None)
        # What was not attested from its first turn on does not become so later.
        attested = self.attestations is not None and (before is None or before.registration is Registration.ATTESTED)
        draft = replace(
            draft,
            registration=Registration.ATTESTED if attested else Registration.CLAIMED,
            profile=turn.profile or draft.profile,
            turns=turns,
            quoted=draft.quoted or turn.quoted is not None,
        )
        return await self.identify.conversations.register(draft)

    async def _vouch(self, draft: Registered, turn: Turn, turns: int, *, first: bool) -> None:
        if self.attestations is None:
            if turn.attestation is not None:
                raise _invalid("attestations are not taken here: the setting is `registration: claimed`")
            return
        if turn.text is None:
            if first or turn.attestation is not None:
                raise _invalid(
                    "an attested conversation begins with its first text, and each attestation comes with its text"
                )
            return
        if turn.attestation is None:
            raise refused("the text needs an attestation by the application: the setting is `registration: attested`")
        attestation = await self.attestations.attest(turn.attestation)
        check_attestation(
            attestation,
            conversation=draft.conversation,
            principal=draft.principal.id,
            turn=turns,
            text=turn.text,
            profile=turn.profile,
        )
        self.attestations.spend(attestation)

    def _refuse_foreign(self, before: Registered, principal: Principal) -> None:
        if not same_workload(before.agent, self.identify.agent):
            raise conflicting("the conversation belongs to another agent")
        refuse_other_principal(before, principal)

    def _one_at_a_time(self, conversation_id: str) -> asyncio.Lock:
        # Between reading a conversation and writing its next turn nobody else may write it.
        lock = self._locks.get(conversation_id)
        if lock is None:
            lock = self._locks[conversation_id] = asyncio.Lock()
        return lock


def read_turn(body: bytes) -> Turn:
    """Read {"text"?, "quoted"?, "profile"?, "attestation"?}, all texts. Raises Refusal invalid_json, invalid_call."""
    tree = strict_json.read_tree(body)
    if not isinstance(tree, dict) or not set(tree) <= _FIELDS:
        raise _invalid(f"the body is a JSON object that may hold {', '.join(sorted(_FIELDS))} and nothing else")
    if not all(isinstance(value, str) and value for value in tree.values()):
        raise _invalid("text, quoted, profile and attestation are texts that are not empty")
    turn = Turn(**tree)
    if turn.profile is not None and _PROFILE.fullmatch(turn.profile) is None:
        raise _invalid("a profile has 1 to 64 of A-Z a-z 0-9 . _ -")
    return turn


def _invalid(why: str) -> Refusal:
    return Refusal(Code.INVALID_CALL, why, fix="change the body as the sentence says")
