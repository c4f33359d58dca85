"""Who calls, in which conversation: the rows of design section 7's table, and nothing beside them."""

from dataclasses import dataclass

from proxy.core.identity import (
    caller_of,
    conflicting,
    hash_handle,
    implicit,
    incomplete,
    refuse_expired,
    refuse_other_principal,
    same_workload,
    unknown_conversation,
)
from proxy.core.registry import Registered
from proxy.model import Agent, Caller, Presented
from proxy.ports import Clock, Conversations, TokenVerifier


@dataclass(frozen=True, slots=True, kw_only=True)
class Identify:
    """Turns what a request presents into its caller. `agent` is the workload in whose pod this sidecar stands."""

    conversations: Conversations
    tokens: TokenVerifier
    clock: Clock
    agent: Agent

    async def __call__(self, presented: Presented) -> Caller:
        """The caller. Raises Refusal unauthenticated, unknown_conversation, conversation_expired, conflicting_conversation,
        invalid_call (a token without an id is refused, not taken for nobody: its sender believes to be somebody)."""
        if presented.handle is not None:
            return await self._by_handle(presented.handle, presented)
        if presented.token is not None and presented.conversation is not None:
            return await self._by_token(presented.token, presented.conversation)
        if presented.token is None and presented.conversation is None:
            return implicit(self.agent)
        raise incomplete(presented)

    async def _by_handle(self, handle: str, presented: Presented) -> Caller:
        registered = self._own(await self.conversations.conversation(handle_hash=hash_handle(handle)))
        if presented.conversation not in (None, registered.conversation):
            raise conflicting("the handle and the conversation id belong to two conversations")
        principal = registered.principal
        if presented.token is not None:
            principal = await self.tokens.verify(presented.token)
            refuse_other_principal(registered, principal)
        refuse_expired(registered, self.clock.now())
        return caller_of(registered, self.agent, principal)

    async def _by_token(self, token: str, conversation: str) -> Caller:
        principal = await self.tokens.verify(token)
        registered = self._own(await self.conversations.conversation(conversation_id=conversation))
        if registered.principal.id != principal.id:
            raise unknown_conversation()
        refuse_other_principal(registered, principal)
        refuse_expired(registered, self.clock.now())
        return caller_of(registered, self.agent, principal)

    def _own(self, registered: Registered | None) -> Registered:
        if registered is None or not same_workload(registered.agent, self.agent):
            raise unknown_conversation()
        return registered
