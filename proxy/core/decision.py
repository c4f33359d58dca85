"""Reads what OPA answered, strictly: whatever is odd is a Refusal, and no oddity can come out as an allow (design section 10).

orjson reads the body, and it keeps the last of two equal keys. The strict reader would see the duplicate, but OPA cannot write
one, and who has taken over the socket can simply say allow: it would be paid on every call and protect nothing.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NoReturn

import orjson

from proxy.errors import Code, Refusal
from proxy.model import Decision, Effect, Reason

MAX_BODY = 1 << 20  # bytes
MAX_CACHED_BODY = 4096  # bytes: a policy that repeats arguments says something else each time, and at length
MAX_REASONS = 256  # of all effects and policies together
MAX_ITEMS = 256  # members of one list or object of names
MAX_NAME = 128  # characters of a policy, code, guard, approver, revision
MAX_TEXT = 2000  # characters of a message or fix

# What the proxy can do for an obligation. One that it does not know cannot be kept, so its decision does not hold.
KNOWN_OBLIGATIONS: frozenset[str] = frozenset()

_SAID = ("deny", "review", "allow")
_KEYS = frozenset({"schema", "effect", "guards", *_SAID, "obligations", "warn", "revision"})
_REASON_KEYS = frozenset({"code", "message", "fix", "details", "approvers", "scope", "severity"})
_SCOPES = ("once", "conversation")
_NOT_GRANTED = Reason(policy="decision", code="not_granted")


def read_decision(body: bytes) -> Decision:
    """The decision in the body of OPA's HTTP 200: `{"result": {"schema": 1, "effect", ...}}`.

    An allow beside a review stands only where the input carried an approval; that is the caller's to check.
    Raises Refusal policy_unavailable (no answer: undefined) or policy_invalid; `details` = {"cause", "at"}.
    """
    return _read_cached(body) if len(body) <= MAX_CACHED_BODY else _read(body)


def _read(body: bytes) -> Decision:
    result = _object(_result(body), "result")
    _keys(result, _KEYS, _KEYS, "result")
    schema = result["schema"]
    if type(schema) is not int or schema != 1:
        _odd("unknown_schema", "schema")
    effect = _effect(result["effect"])
    said = {key: _said(result[key], key) for key in _SAID}
    if sum(len(reasons) for reasons in said.values()) > MAX_REASONS:
        _odd("too_many", "reasons")
    guards = _names(result["guards"], "guards")
    deny, review, allow = (said[key] for key in _SAID)
    _consistent(effect, guards, deny, review, allow)
    return Decision(
        effect=effect,
        guards=guards,
        deny=(_NOT_GRANTED,) if effect is Effect.DENY and not deny and not guards else deny,
        review=review,
        allow=allow,
        obligations=_obligations(result["obligations"]),
        warn=_warnings(result["warn"]),
        revision=_name(result["revision"], "revision"),
        said={key: result[key] for key in _SAID},
    )


# Reading is a pure function of the bytes, and a policy says few different things: most answers are the same to the letter.
_read_cached = lru_cache(maxsize=256)(_read)


def read_visible(body: bytes) -> frozenset[str]:
    """Names of the tools in the body of `visible`: `{"result": [name, ...]}`. Raises as `read_decision`."""
    return frozenset(_names(_result(body), "visible", limit=100_000))


def read_mismatch(body: bytes) -> frozenset[str]:
    """Policies loaded but not listed, from `{"result": [name, ...]}`. Raises as `read_decision`."""
    return frozenset(_names(_result(body), "mismatch"))


def read_shadow(body: bytes) -> Mapping[str, Any]:
    """What policies on trial would have said, by policy and as said, unchecked: it decides nothing. Raises as `read_decision`."""
    return _by_policy(_result(body), "shadow")


def refuse_undefined() -> NoReturn:
    """OPA had no answer: its HTTP 200 without `result`."""
    raise Refusal(
        Code.POLICY_UNAVAILABLE,
        "the policy service has no decision for this call; nothing was executed",
        details={"cause": "undefined"},
    )


def _odd(cause: str, at: str) -> NoReturn:
    raise Refusal(
        Code.POLICY_INVALID,
        "the policy service gave no valid decision; nothing was executed",
        details={"cause": cause, "at": at},
    )


def _result(body: bytes) -> Any:
    if len(body) > MAX_BODY:
        _odd("too_large", "body")
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        _odd("not_json", "body")
    _object(answer, "body")
    if "warning" in answer:
        _odd("warning", "body")
    if not answer:
        refuse_undefined()
    # OPA adds the id of its own decision log's entry where such a log is on.
    _keys(answer, frozenset({"result", "decision_id"}), frozenset({"result"}), "body")
    return answer["result"]


def _object(value: Any, at: str) -> dict[str, Any]:
    return value if isinstance(value, dict) else _odd("wrong_type", at)


def _list(value: Any, at: str, limit: int = MAX_ITEMS) -> list[Any]:
    if not isinstance(value, list):
        _odd("wrong_type", at)
    return value if len(value) <= limit else _odd("too_many", at)


def _text(value: Any, at: str, limit: int) -> str:
    if not isinstance(value, str):
        _odd("wrong_type", at)
    return value if len(value) <= limit else _odd("too_long", at)


def _name(value: Any, at: str) -> str:
    return _text(value, at, MAX_NAME) or _odd("empty", at)


def _names(value: Any, at: str, limit: int = MAX_ITEMS) -> tuple[str, ...]:
    return tuple(_name(item, at) for item in _list(value, at, limit))


def _keys(value: Mapping[str, Any], known: frozenset[str], required: frozenset[str], at: str) -> None:
    if not required <= value.keys():
        _odd("missing_key", at)
    if not value.keys() <= known:
        _odd("extra_key", at)


def _effect(value: Any) -> Effect:
    try:
        return Effect(_text(value, "effect", MAX_NAME))
    except ValueError:
        _odd("unknown_effect", "effect")


def _by_policy(value: Any, at: str) -> dict[str, Any]:
    policies = _object(value, at)
    if len(policies) > MAX_ITEMS:
        _odd("too_many", at)
    for policy in policies:
        _name(policy, at)
    return policies


def _said(value: Any, at: str) -> tuple[Reason, ...]:
    return tuple(
        _reason(policy, item, f"{at}.{policy}")
        for policy, items in _by_policy(value, at).items()
        for item in _list(items, f"{at}.{policy}") or _odd("empty", f"{at}.{policy}")
    )


def _reason(policy: str, value: Any, at: str) -> Reason:
    reason = _object(value, at)
    _keys(reason, _REASON_KEYS, frozenset({"code"}), at)
    scope = reason.get("scope", "once")
    if scope not in _SCOPES:
        _odd("unknown_scope", at)
    return Reason(
        policy=policy,
        code=_name(reason["code"], at),
        message=_optional(reason, "message", at, lambda text, where: _text(text, where, MAX_TEXT)),
        fix=_optional(reason, "fix", at, lambda text, where: _text(text, where, MAX_TEXT)),
        details=reason.get("details"),
        approvers=_names(reason.get("approvers", []), at),
        scope=scope,
        severity=_optional(reason, "severity", at, _name),
    )


def _optional(reason: Mapping[str, Any], key: str, at: str, read: Callable[[Any, str], str]) -> str | None:
    return read(reason[key], f"{at}.{key}") if key in reason else None


def _obligations(value: Any) -> tuple[Mapping[str, Any], ...]:
    """Each with the policy that asks for it beside what it said."""
    return tuple(
        {"policy": policy, **_obligation(item, f"obligations.{policy}")}
        for policy, items in _by_policy(value, "obligations").items()
        for item in _list(items, f"obligations.{policy}") or _odd("empty", f"obligations.{policy}")
    )


def _obligation(value: Any, at: str) -> dict[str, Any]:
    obligation = _object(value, at)
    if _name(obligation.get("kind"), at) not in KNOWN_OBLIGATIONS:
        _odd("unknown_obligation", at)
    return obligation


def _warnings(value: Any) -> dict[str, Any]:
    warnings = _by_policy(value, "warn")
    for policy, said in warnings.items():
        _object(said, f"warn.{policy}")
    return warnings


def _consistent(
    effect: Effect,
    guards: tuple[str, ...],
    deny: tuple[Reason, ...],
    review: tuple[Reason, ...],
    allow: tuple[Reason, ...],
) -> None:
    """The effect follows from what was said: deny over review over allow, and nothing without a grant."""
    barred = bool(deny or guards)
    granted = bool(allow) and not barred
    fits = {
        Effect.ALLOW: granted,
        Effect.REVIEW: granted and bool(review),
        Effect.DENY: not granted,
    }
    if not fits[effect]:
        _odd("contradiction", "effect")
