"""The standard `OTEL_*` variables about recording, read from a mapping (the SDK's own constructors read the process's).

As the specification asks, a variable that is empty counts as unset, and a value that cannot be used is warned of and
replaced by its default: telemetry never keeps Sidegate from starting.
"""

import logging
import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from opentelemetry.sdk.resources import HOST_NAME, SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.sdk.version import __version__ as sdk_version

from proxy import __version__

Variables = Mapping[str, str]

_logger = logging.getLogger(__name__)

_SAMPLERS = ("always_on", "always_off", "traceidratio")
_PARENT_BASED = "parentbased_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """What the SDK's sampler of the same name decides: `bound` is its TraceIdRatioBased bound (0 for never, 2^64 for always)
    on the low 64 bits of the trace id; `parent_based` whether a sampled parent is followed."""

    parent_based: bool = True
    bound: int = 1 << 64


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanLimits:
    """How much of one span is kept. Lengths are in characters; None is no limit."""

    attributes: int = 128
    events: int = 128
    links: int = 128
    length: int | None = None


def read_sampling(variables: Variables) -> Sampling:
    """`OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`; default parentbased_always_on."""
    name = text(variables, "OTEL_TRACES_SAMPLER", "parentbased_always_on").lower()
    root = name.removeprefix(_PARENT_BASED)
    if root not in _SAMPLERS:
        _logger.warning(
            "OTEL_TRACES_SAMPLER names a sampler that Sidegate does not have; it uses parentbased_always_on"
        )
        return Sampling()
    rate = {"always_on": 1.0, "always_off": 0.0}.get(root)
    sampler = _ratio(variables) if rate is None else TraceIdRatioBased(rate)
    return Sampling(parent_based=name.startswith(_PARENT_BASED), bound=sampler.bound)


def _ratio(variables: Variables) -> TraceIdRatioBased:
    try:
        return TraceIdRatioBased(float(text(variables, "OTEL_TRACES_SAMPLER_ARG", "1")))
    except ValueError:
        _logger.warning("OTEL_TRACES_SAMPLER_ARG is no number from 0 to 1; it counts as 1")
        return TraceIdRatioBased(1.0)


def read_limits(variables: Variables) -> SpanLimits:
    """`OTEL_[SPAN_]ATTRIBUTE_COUNT_LIMIT`, `OTEL_[SPAN_]ATTRIBUTE_VALUE_LENGTH_LIMIT`, `OTEL_SPAN_{EVENT,LINK}_COUNT_LIMIT`."""
    count = whole(variables, "OTEL_ATTRIBUTE_COUNT_LIMIT", 128)
    length = whole(variables, "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", -1)
    length = whole(variables, "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", length)
    return SpanLimits(
        attributes=whole(variables, "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", count),
        events=whole(variables, "OTEL_SPAN_EVENT_COUNT_LIMIT", 128),
        links=whole(variables, "OTEL_SPAN_LINK_COUNT_LIMIT", 128),
        length=None if length < 0 else length,
    )


def read_resource(variables: Variables) -> Resource:
    """Who emits: `OTEL_RESOURCE_ATTRIBUTES` (k8s.* come in by it), `OTEL_SERVICE_NAME`, and defaults of ours below them."""
    ours = {
        "telemetry.sdk.language": "python",
        "telemetry.sdk.name": "opentelemetry",
        "telemetry.sdk.version": sdk_version,
        SERVICE_NAME: "sidegate",
        SERVICE_VERSION: __version__,
        SERVICE_INSTANCE_ID: str(uuid.uuid4()),
        # One host has one clock: without it Jaeger warns of a skew at every span that outlasts its parent.
        HOST_NAME: socket.gethostname(),
    }
    given = pairs(text(variables, "OTEL_RESOURCE_ATTRIBUTES", ""), "OTEL_RESOURCE_ATTRIBUTES")
    if name := text(variables, "OTEL_SERVICE_NAME", ""):
        given[SERVICE_NAME] = name
    return Resource(ours).merge(Resource(given))


def pairs(value: str, variable: str) -> dict[str, str]:
    """`key=value,key=value` with percent-encoded values, as W3C Baggage writes them. A broken pair is left out, never shown."""
    found: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in value.split(","))):
        key, equals, encoded = item.partition("=")
        if not equals or not key.strip():
            _logger.warning("%s has an item that is not key=value; it is left out", variable)
            continue
        found[key.strip()] = unquote(encoded.strip())
    return found


def text(variables: Variables, name: str, default: str) -> str:
    """A variable without surrounding space."""
    return variables.get(name, "").strip() or default


def first(variables: Variables, names: tuple[str, ...]) -> str:
    """The first of these variables that is set, else an empty string."""
    return next((value for name in names if (value := text(variables, name, ""))), "")


def whole(variables: Variables, name: str, default: int) -> int:
    """A whole number, 0 or more."""
    value = text(variables, name, "")
    if not value:
        return default
    if not (value.isascii() and value.isdigit() and len(value) <= 12):
        _logger.warning("%s is no whole number from 0; its default is used", name)
        return default
    return int(value)


def on(variables: Variables, name: str) -> bool:
    """A switch: on only if it says `true`, in any case (OpenTelemetry's rule for booleans)."""
    return text(variables, name, "").lower() == "true"
