"""Port Policy around another that keeps what tools may be seen: an agent asks before each turn, and the answer seldom changes.

The key is all that the answer hangs on: the very document that OPA is asked about - agent, principal with roles, tools of the
catalog, the minute - and the policy revision in force. So nothing that changes can be missed, and nobody sees another's tools.
Decisions are never kept (design section 10).
"""

import hashlib
from collections.abc import Callable

from proxy.model import Decision, SpanContext
from proxy.ports import Policy

KEPT = 128  # answers, the ones used last

_Key = tuple[bytes, str]


class VisibleCache:
    """`revision` tells the policy revision in force."""

    def __init__(self, policy: Policy, revision: Callable[[], str]) -> None:
        self._policy = policy
        self._revision = revision
        self._kept: dict[_Key, frozenset[str]] = {}

    async def decide(self, document: bytes, trace: SpanContext) -> Decision:
        """As the inner policy, each time."""
        return await self._policy.decide(document, trace)

    async def visible(self, document: bytes, trace: SpanContext | None) -> frozenset[str]:
        """As the inner policy, which is asked once a question. What it refuses is asked again."""
        key = hashlib.sha256(document).digest(), self._revision()
        seen = self._kept.pop(key, None)
        if seen is None:
            seen = await self._policy.visible(document, trace)
        self._kept[key] = seen
        if len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]
        return seen
