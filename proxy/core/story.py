"""Audit records told to people: one headline and indented facts a record, tolerant of what is absent. Pure.

Text of others is shown, never obeyed: what is not printable (control characters, ANSI, direction marks) is escaped.
"""

from collections.abc import Callable, Mapping

from proxy.core.chain import parse_line
from proxy.core.story_facts import Record, clean, facts, field, review_id, who

_INDENT = " " * 26


class Selection:
    """Which records belong to one conversation, trace, call or review, in the order they were written."""

    def __init__(self, name: str) -> None:
        """`name` is a conversation, trace id, call id or review id."""
        self._name = name
        self._reviews: set[str] = {name}
        self._begun = False

    def takes(self, record: Record) -> bool:
        """Whether it belongs; a gap does, once the story has begun, for what is missing may belong, too."""
        named = any(field(record, key) == self._name for key in ("conversation", "trace", "call", "resumes"))
        review = review_id(record)
        if not named and review not in self._reviews:
            return self._begun and record.get("kind") == "gap"
        if review is not None:
            self._reviews.add(review)
        self._begun = True
        return True


def ascii_json(line: bytes) -> str:
    """A record's line as it is written, in ASCII: an escape in a JSON string changes how it looks, not what it says."""
    text = line.decode(errors="replace").rstrip("\n")
    return "".join(each if " " <= each <= "~" else _json_escape(each) for each in text)


def tell(line: bytes) -> list[str]:
    """One record's line for people. An unreadable line tells only that."""
    record = parse_line(line)
    if record is None:
        return ["(an unreadable line)"]
    what = _HEADLINES.get(record["kind"], _plain)(record)
    when = clean(record.get("at", "?")).replace("T", " ")[:23] + "Z"
    told = [f"{_INDENT}{name:<10} {text}" for name, text in facts(record, line)]
    return [f"{when}  {what}", *told]


def headline(line: bytes) -> str:
    """The first line of `tell`, and who it was for."""
    first = tell(line)[0]
    person = who(parse_line(line) or {})
    return f"{first} [{person}]" if person else first


def _json_escape(character: str) -> str:
    """A JSON escape of one character."""
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def _call(record: Record) -> str:
    tool = clean(field(record, "tool") or record.get("asked_tool") or "an unknown tool", 256)
    version = field(record, "version")
    return f"call {clean(field(record, 'call') or '?')}: {tool}" + (f" v{clean(version)}" if version else "")


def _intent(record: Record) -> str:
    return f"{_call(record)} is allowed and will run"


def _terminal(record: Record) -> str:
    outcome, code = record.get("outcome", "ended"), record.get("code")
    text = f"{_call(record)} {clean(outcome)}"
    if code:
        ran = {"no": "it did not run", "yes": "it ran", "unknown": "whether it ran is unknown"}.get(
            str(record.get("ran"))
        )
        text += f": {clean(code)}" + (f", {ran}" if ran else "")
    if record.get("recovered"):
        text += " (said at the next start, after a crash)"
    return text


def _registered(record: Record) -> str:
    text = (
        f"conversation {clean(record.get('conversation', '?'))} registered ({clean(record.get('registration', '?'))})"
    )
    expires = record.get("expires_at")
    return text + (f", valid until {clean(expires)}" if expires else "")


def _requested(record: Record) -> str:
    return f"{_call(record)} is held for a person: review {clean(review_id(record) or '?')}"


def _attached(record: Record) -> str:
    return f"call {clean(record.get('call', '?'))} takes up review {clean(review_id(record) or '?')}"


def _resolved(record: Record) -> str:
    text = (
        f"review {clean(review_id(record) or '?')} {clean(record.get('status') or record.get('outcome') or 'resolved')}"
    )
    by, comment = record.get("by"), record.get("comment")
    return text + (f" by {clean(by)}" if by else "") + (f": {clean(comment)}" if comment else "")


def _stop(record: Record) -> str:
    verb = "lifted" if record.get("standing") is False else "thrown"
    over = " ".join(clean(record[key]) for key in ("scope", "name") if record.get(key))
    by = record.get("by")
    return f"stop {verb}" + (f" over {over}" if over else "") + (f" by {clean(by)}" if by else "")


def _gap(record: Record) -> str:
    lost = record.get("lost")
    counts = ", ".join(f"{clean(n)} {clean(kind)}" for kind, n in lost.items()) if isinstance(lost, dict) else "some"
    return f"GAP: not written between {clean(record.get('since', '?'))} and {clean(record.get('until', '?'))}: {counts}"


def _seal(record: Record) -> str:
    return (
        f"sealed: {clean(record.get('length', '?'))} torn bytes at byte {clean(record.get('offset', '?'))} "
        f"of {clean(record.get('segment', '?'))}, left by a crash or a failed write"
    )


def _segment(record: Record) -> str:
    return f"journal of {clean(record.get('chain', '?'))} goes on in a new segment ({clean(record.get('reason', '?'))})"


def _reload(record: Record) -> str:
    if record.get("failed"):
        problems = record.get("problems")
        return f"catalog or policy NOT taken over: {clean('; '.join(map(str, problems)) if isinstance(problems, list) else '?')}"
    return (
        f"catalog and policy revision {clean(record.get('revision', '?'))} {clean(record.get('status') or 'in force')}"
    )


def _shown(record: Record) -> str:
    return f"{clean(record.get('tools', '?'))} tools shown ({clean(record.get('dialect', '?'))})"


def _trial(record: Record) -> str:
    return f"{_call(record)}: policies on trial would have said: {clean(record.get('said', '?'))}"


def _plain(record: Record) -> str:
    return clean(record["kind"])


_HEADLINES: Mapping[str, Callable[[Record], str]] = {
    "intent": _intent,
    "terminal": _terminal,
    "registered": _registered,
    "review_requested": _requested,
    "review_attached": _attached,
    "review_resolved": _resolved,
    "stop": _stop,
    "gap": _gap,
    "seal": _seal,
    "segment": _segment,
    "reload": _reload,
    "shown": _shown,
    "trial": _trial,
}
