"""What an audit record says, read for people: tolerant of what is absent, and of what is not what it should be. Pure."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

from proxy.core import strict_json
from proxy.errors import Refusal

Record = Mapping[str, Any]
_MAX_TEXT = 2000
_IN_REVIEW = {"call": "call_id", "trace": "trace_id"}  # what a held call's record calls it inside `review`


def field(record: Record, key: str) -> Any:
    """A record's field, also where a held call carries it inside `review`."""
    review = record.get("review")
    if key not in record and isinstance(review, dict):
        return review.get(_IN_REVIEW.get(key, key))
    return record.get(key)


def review_id(record: Record) -> str | None:
    """The review that a record is about, if any."""
    review = record.get("review")
    found = review.get("id") if isinstance(review, dict) else review
    return found if isinstance(found, str) else None


def codes(record: Record) -> set[str]:
    """Every refusal and reason code in a record, also what was only noted."""
    said = (*_reasons(record), *_noted(record))
    return {code for code in (record.get("code"), *(code for _, code in said)) if isinstance(code, str)}


def clean(value: object, limit: int = _MAX_TEXT) -> str:
    """One line of at most `limit` characters in which everything that is not printable is escaped."""
    text = str(value)
    rest = len(text) - limit
    shown = "".join(each if each.isprintable() else _escaped(each) for each in text[:limit])
    return f"{shown} ... ({rest} more characters)" if rest > 0 else shown


def facts(record: Record, line: bytes) -> Iterable[tuple[str, str]]:
    """Named facts of a record in reading order; `line` is the record as it is written."""
    if record["kind"] in ("segment", "seal", "gap", "reload"):
        return
    for name, read in _FACTS:
        text = read(record)
        if text:
            yield name, text
    if "arguments" in record:
        yield "arguments", clean(_arguments(record, line))
    elif isinstance(held := field(record, "arguments"), str):
        yield "arguments", clean(held)


def _arguments(record: Record, line: bytes) -> str:
    """As they were written: numbers as raw tokens, since a double would show another amount."""
    try:
        return strict_json.write(strict_json.read_tree(line)["arguments"]).decode()
    except Refusal:
        return orjson.dumps(record["arguments"]).decode()


def who(record: Record) -> str:
    """The principal, by name and id; empty if there is none."""
    principal = field(record, "principal")
    if not isinstance(principal, dict):
        return ""
    name, identity = principal.get("name"), principal.get("id") or principal.get("subject")
    return clean(f"{name} ({identity})" if name and identity else name or identity or "")


def _agent(record: Record) -> str:
    agent = field(record, "agent")
    if isinstance(agent, dict):
        agent = "/".join(str(value) for value in agent.values() if value)
    return clean(agent or "")


def _reasons(record: Record) -> list[tuple[str, str]]:
    decision = record.get("decision")
    if isinstance(decision, dict) and isinstance(decision.get("reasons"), list):
        return [
            (str(each.get("policy")), str(each.get("code"))) for each in decision["reasons"] if isinstance(each, dict)
        ]
    said = field(record, "reasons")
    if not isinstance(said, dict):
        return []
    return [pair for policy, reasons in said.items() for pair in _coded(policy, reasons)]


def _noted(record: Record) -> list[tuple[str, str]]:
    """What policies of mode warn said, or in a record of a trial those of mode shadow: (policy, code)."""
    decision = record.get("decision")
    said = decision.get("warn") if isinstance(decision, dict) else record.get("said")
    if not isinstance(said, dict):
        return []
    kinds = [
        (policy, kind) for policy, by_kind in said.items() if isinstance(by_kind, dict) for kind in by_kind.values()
    ]
    return [pair for policy, said_so in kinds for pair in _coded(policy, said_so)]


def _coded(policy: str, reasons: object) -> list[tuple[str, str]]:
    """(policy, code) of a list of reasons; nothing of anything else."""
    listed = reasons if isinstance(reasons, list) else []
    return [(policy, str(each.get("code"))) for each in listed if isinstance(each, dict)]


def _notes(record: Record) -> str:
    return clean(", ".join(f"{policy}: {code}" for policy, code in _noted(record)))


def _decision(record: Record) -> str:
    decision = record.get("decision")
    effect = decision.get("effect") if isinstance(decision, dict) else None
    reasons = ", ".join(f"{policy}: {code}" for policy, code in _reasons(record))
    return clean(" - ".join(part for part in (effect, reasons) if isinstance(part, str) and part))


def _refusal(record: Record) -> str:
    refusal = record.get("refusal")
    return clean(refusal.get("message") or "") if isinstance(refusal, dict) else ""


def _approval(record: Record) -> str:
    approval = record.get("approval")
    if not isinstance(approval, dict):
        return ""
    return f"review {clean(approval.get('review', '?'))} by {clean(approval.get('by', '?'))}"


def _result(record: Record) -> str:
    result = record.get("result")
    if not isinstance(result, dict):
        return ""
    parts = [f"{result['size']} bytes"] if "size" in result else []
    parts += [f"{result['rows']} rows"] if result.get("rows") is not None else []
    parts += ["empty"] if result.get("empty") else []
    parts += [f"sha256 {result['digest']}"] if "digest" in result else []
    return clean(", ".join(parts))


def _durations(record: Record) -> str:
    durations = record.get("durations")
    if not isinstance(durations, dict):
        return ""
    return clean(", ".join(f"{stage} {milliseconds} ms" for stage, milliseconds in durations.items()))


def _text(key: str) -> Callable[[Record], str]:
    return lambda record: clean(value) if isinstance(value := field(record, key), str) else ""


_FACTS: tuple[tuple[str, Callable[[Record], str]], ...] = (
    ("for", who),
    ("agent", _agent),
    ("said why", _text("reason")),
    ("decision", _decision),
    ("noted only", _notes),
    ("refusal", _refusal),
    ("approval", _approval),
    ("credential", _text("credential")),
    ("result", _result),
    ("took", _durations),
    ("revision", _text("revision")),
    ("digest", _text("digest")),
    ("trace", _text("trace")),
)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
