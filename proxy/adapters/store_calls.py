"""Port Calls of the embedded store: numbers, facts, intents and ends of calls."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from proxy.adapters.store_log import StateLog
from proxy.core.conversation import Conversation
from proxy.core.hold_rules import deadline, refuse_spending
from proxy.core.reservation import Reservation, facts_below, new_reservation, of_caller
from proxy.core.state_records import recovered_record
from proxy.core.tool import CheckedCall
from proxy.model import Caller, Facts
from proxy.ports import Clock

_REMEMBERED_ENDS = 10_000


class EmbeddedCalls:
    """Port Calls. `reserve` and the check of an approval happen without an await, so they are atomic on the event loop."""

    def __init__(self, log: StateLog, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._reserved: dict[str, Reservation] = {}  # call -> what it would bring
        self._by_conversation: dict[str, dict[str, Reservation]] = {}
        self._by_principal: dict[str, int] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._orphans = dict(log.state.executing)

    async def reserve(self, call_id: str, caller: Caller, checked: CheckedCall) -> Facts:
        """Take the next number and the facts below it. A call that reserves again moves to the end and sees all till then."""
        self._log.refuse_if_behind()
        conversation = self._of(caller)
        self.release(call_id)
        conversation.handed = number = max(conversation.handed, conversation.last) + 1
        own = new_reservation(call_id, caller, checked, number)
        state, now = self._log.state, self._clock.now()
        today = state.principals.get(own.principal, {}) if state.day >= self._day() else {}
        facts = facts_below(
            own,
            conversation,
            lower=self._by_conversation.get(own.conversation, {}).values(),
            holds=[hold for hold in state.holds.open(own.conversation) if now < deadline(hold.review)],
            today=today,
            reserved_today=self._by_principal.get(own.principal, 0),
        )
        self._add(own)
        self._log.enter(call_id)
        return facts

    async def commit(self, intent: Mapping[str, Any], *, durable: bool) -> None:
        """Write the intent of a reserved call and spend its approval, if it has one: from here on it counts for good."""
        self._log.refuse_if_behind()
        call, state = intent["call"], self._log.state
        own = self._reserved.get(call)
        if own is None or (own.number, own.conversation) != (intent["number"], intent["conversation"]):
            raise RuntimeError(f"call {call} is committed without its reservation")
        conversation = state.conversation(own.conversation)
        if intent["review"] is not None and conversation is not None:
            refuse_spending(state.holds.all.get(intent["review"]), intent, own.entry, conversation, self._clock.now())
        seq = self._log.write({**intent, "day": self._day()})
        self.release(call)
        if durable:
            await self._log.durable(seq)

    async def settle(self, terminal: Mapping[str, Any], *, durable: bool) -> None:
        """Write the one terminal record. If it cannot be written, a call that was not committed still vanishes."""
        call = terminal["call"]
        if call in self._ended:
            raise RuntimeError(f"call {call} is settled twice")
        try:
            try:
                seq = self._log.write(terminal)
            finally:
                self.release(call)
            self._remember(call)
            if durable:
                await self._log.durable(seq)
        finally:
            self._log.leave(call)

    def repeated(self, conversation: str, digest: str) -> int:
        """How often in a row this very call was refused or failed, since anything last succeeded or the user said something.
        Refusals that say "later" do not count."""
        found = self._log.state.conversation(conversation)
        return 0 if found is None else found.failures.get(digest, 0)

    async def recover(self) -> int:
        """End the calls that were executing when the process before this one died. Returns how many; call it before serving."""
        seq = 0
        count = len(self._orphans)
        for call, running in list(self._orphans.items()):
            seq = self._log.write(recovered_record(call, running))
            self._remember(call)
            del self._orphans[call]
        if count:
            await self._log.durable(seq)
        return count

    def reservation(self, call_id: str) -> Reservation | None:
        """What a call that is not committed has reserved."""
        return self._reserved.get(call_id)

    def release(self, call_id: str) -> None:
        """Take a reservation back: committed, refused or held."""
        own = self._reserved.pop(call_id, None)
        if own is None:
            return
        others = self._by_conversation[own.conversation]
        del others[call_id]
        if not others:
            del self._by_conversation[own.conversation]
        self._by_principal[own.principal] -= 1
        if not self._by_principal[own.principal]:
            del self._by_principal[own.principal]
        self._log.unpin(own.conversation)

    def _add(self, own: Reservation) -> None:
        self._reserved[own.call] = own
        self._by_conversation.setdefault(own.conversation, {})[own.call] = own
        self._by_principal[own.principal] = self._by_principal.get(own.principal, 0) + 1
        self._log.pin(own.conversation)

    def _of(self, caller: Caller) -> Conversation:
        conversation = of_caller(self._log.state.conversation(caller.conversation), caller)
        self._log.used(conversation.id)
        return conversation

    def _day(self) -> str:
        return self._clock.now().date().isoformat()

    def _remember(self, call: str) -> None:
        self._ended[call] = None
        if len(self._ended) > _REMEMBERED_ENDS:
            self._ended.popitem(last=False)
