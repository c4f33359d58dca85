"""What a conversation would have taken up that nobody has had, for questions about calls that nobody has made. Pure."""

from collections.abc import Sequence

from proxy.core.conversation import Conversation
from proxy.core.reservation import SHOWN_CALLS
from proxy.core.tool import Tool
from proxy.earlier import Outcome
from proxy.model import History, ToolCount


def used_before(tools: Sequence[Tool]) -> History:
    """A registered conversation in which these tools were used, one after the other, each with success."""
    made = Conversation(id="-")
    for number, tool in enumerate(tools, 1):
        facts = {"tool": tool.name, "system": tool.system.name, "effect": tool.effect, "labels": tool.labels}
        brings = {"marks": tool.marks, "untrusted": not tool.trusted, "counters": {"calls": 1}}
        made.begin({"number": number, **facts, **brings})
        made.end(number, tool.name, Outcome.DONE, ok=True)
    shown = tuple(made.calls[-SHOWN_CALLS:])
    return History(
        complete=True,
        untrusted_read=made.untrusted,
        marks=made.marks,
        tools={name: ToolCount(started=started, ok=ok) for name, (started, ok) in made.tools.items()},
        counters=made.counters,
        calls=shown,
        calls_complete=len(shown) == len(tools),
        principal_counters=made.counters,
    )
