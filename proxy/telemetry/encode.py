"""Ended spans -> the bytes of an OTLP `ExportTraceServiceRequest`, on opentelemetry-proto's own classes.

Protobuf's messages are merged by writing one behind the other (protobuf.dev, "Encoding": last one wins, repeated fields
add up). So what many spans share, a name, most attributes, is encoded once and its bytes are kept; ids and times have a
fixed length and are packed. Together a quarter of the cost of field assignment, which is a fifth of that of the SDK's
encoder (performance.md 6), for the same message. What protobuf cannot take (lone surrogates, integers over 64 bits, objects)
is replaced in its own attribute, so that no value costs its span, and no span its batch.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from struct import Struct
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, SpanFlags, Status
from opentelemetry.sdk.resources import Resource

from proxy import __version__
from proxy.telemetry.names import ALONE, ONCE, SCHEMA_URL, SCOPE, SPAN_CLIENT, SPAN_INTERNAL, SPAN_SERVER
from proxy.telemetry.spans import SpanRecord, Value

_KINDS = {
    SPAN_SERVER: Span.SpanKind.SPAN_KIND_SERVER,
    SPAN_CLIENT: Span.SpanKind.SPAN_KIND_CLIENT,
    SPAN_INTERNAL: Span.SpanKind.SPAN_KIND_INTERNAL,
}
_LOCAL = SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
_REMOTE = _LOCAL | SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK
_KEPT = 2048  # encoded frames and attributes
_KEPT_LENGTH = 128  # characters of one that is worth keeping
_KEPT_ITEMS = 8
_KEPT_GROUPS = 512
_KEPT_GROUP_LENGTH = 2048  # bytes
_TEXT = {str}
_PLAIN = {str, int, bool}  # no float: 0.0 and -0.0 are equal, and other values

_TRACE_ID = bytes((Span.TRACE_ID_FIELD_NUMBER << 3 | 2, 16))  # tag of wire type 2 and length
_SPAN_ID = bytes((Span.SPAN_ID_FIELD_NUMBER << 3 | 2, 8))
_PARENT_ID = bytes((Span.PARENT_SPAN_ID_FIELD_NUMBER << 3 | 2, 8))
_START = Span.START_TIME_UNIX_NANO_FIELD_NUMBER << 3 | 1  # tag of wire type 1: eight bytes, little-endian
_END = Span.END_TIME_UNIX_NANO_FIELD_NUMBER << 3 | 1
_ATTRIBUTES = Span.ATTRIBUTES_FIELD_NUMBER << 3 | 2
_VALUE = KeyValue.VALUE_FIELD_NUMBER << 3 | 2
_STRING = AnyValue.STRING_VALUE_FIELD_NUMBER << 3 | 2
_SHORT = 64  # characters
_HEAD = Struct("<2s16s2s8sBQBQ")

_groups: dict[tuple[Any, ...], bytes] = {}


class SpanBatch:
    """One export request, filled a few spans at a time so that no turn of the event loop is long."""

    def __init__(self, resource: Resource) -> None:
        self._of_resource = ResourceSpans()
        _put_attributes(self._of_resource.resource.attributes, resource.attributes)
        scope = ScopeSpans(schema_url=SCHEMA_URL)
        scope.scope.name = SCOPE
        scope.scope.version = __version__
        self._of_scope = [scope.SerializeToString()]

    def add(self, records: Sequence[SpanRecord]) -> None:
        """Encode these, too."""
        self._of_scope += [_field(ScopeSpans.SPANS_FIELD_NUMBER, _span(record)) for record in records]

    def to_bytes(self) -> bytes:
        """The protobuf message."""
        scope = _field(ResourceSpans.SCOPE_SPANS_FIELD_NUMBER, b"".join(self._of_scope))
        resource = self._of_resource.SerializeToString() + scope
        return _field(ExportTraceServiceRequest.RESOURCE_SPANS_FIELD_NUMBER, resource)


def _field(number: int, message: bytes) -> bytes:
    """A message as field of another: tag of wire type 2, length as varint, bytes. `number` is below 16."""
    head, length = bytearray((number << 3 | 2,)), len(message)
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head) + message


def _span(record: SpanRecord) -> bytes:
    trace_id, span_id = bytes.fromhex(record.trace_id), bytes.fromhex(record.span_id)
    parts = [
        _HEAD.pack(_TRACE_ID, trace_id, _SPAN_ID, span_id, _START, record.start, _END, record.end),
        _kept_frame(record.name, record.kind, record.remote_parent, record.error),
    ]
    if record.parent_id:
        parts += (_PARENT_ID, bytes.fromhex(record.parent_id))
    group = []
    for item in record.attributes.items():
        if item[0] in ALONE:
            parts.append(_one(*item))
        else:
            group.append(item)
    parts.append(_group(group))
    if record.state or record.events or record.links or record.dropped:
        parts.append(_seldom(record))
    return b"".join(parts)


def _seldom(record: SpanRecord) -> bytes:
    """A span with no more than what few spans have."""
    span = Span()
    span.trace_state = _printable(record.state)
    for happened in record.events:
        event = span.events.add()
        event.name = _printable(happened.name)
        event.time_unix_nano = happened.time
        _put_attributes(event.attributes, happened.attributes)
    for context in record.links:
        link = span.links.add()
        link.trace_id = bytes.fromhex(context.trace_id)
        link.span_id = bytes.fromhex(context.span_id)
        link.flags = _LOCAL
    span.dropped_attributes_count, span.dropped_events_count, span.dropped_links_count = record.dropped or (0, 0, 0)
    encoded: bytes = span.SerializeToString()
    return encoded


@lru_cache(maxsize=_KEPT)
def _kept_frame(name: str, kind: str, remote: bool, error: bool) -> bytes:
    """A span with no more than what all of its kind have in common."""
    span = Span()
    span.flags = _REMOTE if remote else _LOCAL
    span.name = _printable(name)
    span.kind = _KINDS[kind]
    # Set in both cases, as the SDK does: a status message that is there and says "unset".
    span.status.code = Status.StatusCode.STATUS_CODE_ERROR if error else Status.StatusCode.STATUS_CODE_UNSET
    frame: bytes = span.SerializeToString()
    return frame


def _group(items: Sequence[tuple[str, Value]]) -> bytes:
    """Attributes that stand together on many spans. Equal values of other types (1, true) are other values."""
    types = tuple([type(value) for _, value in items])
    if not _PLAIN.issuperset(types):
        return b"".join([_one(key, value) for key, value in items])
    found = _groups.get(wanted := (*items, types))
    if found is None:
        found = b"".join([_one(key, value) for key, value in items])
        if len(found) <= _KEPT_GROUP_LENGTH:
            if len(_groups) >= _KEPT_GROUPS:
                _groups.clear()
            _groups[wanted] = found
    return found


def _one(key: str, value: Value) -> bytes:
    if key in ONCE and isinstance(value, str) and value.isascii() and len(value) <= _SHORT:
        return _short(key, value.encode())
    return _kept_attribute(key, value) if _is_shared(key, value) else _attribute(key, value)


def _short(key: str, text: bytes) -> bytes:
    """As `_attribute`, packed: all lengths are below 128 and so one byte each."""
    begun, length = _kept_key(key), len(text)
    return bytes((_ATTRIBUTES, len(begun) + length + 4)) + begun + bytes((_VALUE, length + 2, _STRING, length)) + text


@lru_cache(maxsize=len(ONCE))
def _kept_key(key: str) -> bytes:
    return _field(KeyValue.KEY_FIELD_NUMBER, key.encode())


def _is_shared(key: str, value: Value) -> bool:
    """Whether other spans are likely to say the same, in a value that can be looked up without mistaking 1 for true."""
    if isinstance(value, str):
        return key not in ONCE and len(value) <= _KEPT_LENGTH
    if isinstance(value, tuple):
        return len(value) <= _KEPT_ITEMS and set(map(type, value)) <= _TEXT and len("".join(value)) <= _KEPT_LENGTH
    return isinstance(value, int)


def _attribute(key: str, value: Value) -> bytes:
    """A span with no more than this attribute."""
    span = Span()
    _put_attributes(span.attributes, {key: value})
    encoded: bytes = span.SerializeToString()
    return encoded


_kept_attribute = lru_cache(maxsize=_KEPT, typed=True)(_attribute)


def _put_attributes(target: Any, attributes: Mapping[str, Any]) -> None:
    for key, value in attributes.items():
        pair = target.add()
        try:
            pair.key = key
        except ValueError:
            pair.key = _printable(key)
        try:
            _put_value(pair.value, value)
        except (ValueError, TypeError, OverflowError):
            pair.value.string_value = _fallback(value)


def _put_value(target: AnyValue, value: Any) -> None:
    if isinstance(value, str):
        target.string_value = value
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, int):
        target.int_value = value
    elif isinstance(value, float):
        target.double_value = value
    elif value is not None:  # None is an empty value, as the SDK encodes it
        _put_list(target, value)


def _put_list(target: AnyValue, value: Any) -> None:
    if not isinstance(value, list | tuple):
        raise TypeError("no attribute value")
    values = target.array_value.values
    target.array_value.SetInParent()  # an empty list is a list
    for item in value:
        _put_value(values.add(), item)


def _fallback(value: Any) -> str:
    """What stands for a value that protobuf does not take: its text, else no more than its type."""
    if isinstance(value, str):
        return _printable(value)
    if isinstance(value, int):
        return hex(value) if abs(value) < 1 << 256 else "int"
    if isinstance(value, list | tuple):
        return ",".join(_fallback(item) for item in value)
    return type(value).__name__


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
