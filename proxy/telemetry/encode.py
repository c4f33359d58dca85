"""Ended spans -> the bytes of an OTLP `ExportTraceServiceRequest`, on opentelemetry-proto's own classes.

`.add()` and field assignment cost a fifth of the SDK's encoder (performance.md 6) and give the same message. What
protobuf cannot take (lone surrogates, integers over 64 bits, objects) is replaced in its own attribute, so that no value
costs its span, and no span its batch.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, SpanFlags, Status
from opentelemetry.sdk.resources import Resource

from proxy import __version__
from proxy.telemetry.names import SCHEMA_URL, SCOPE, SPAN_CLIENT, SPAN_INTERNAL, SPAN_SERVER
from proxy.telemetry.spans import SpanRecord

_KINDS = {
    SPAN_SERVER: Span.SpanKind.SPAN_KIND_SERVER,
    SPAN_CLIENT: Span.SpanKind.SPAN_KIND_CLIENT,
    SPAN_INTERNAL: Span.SpanKind.SPAN_KIND_INTERNAL,
}
_LOCAL = SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
_REMOTE = _LOCAL | SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK


class SpanBatch:
    """One export request, filled a few spans at a time so that no turn of the event loop is long."""

    def __init__(self, resource: Resource) -> None:
        self._request = ExportTraceServiceRequest()
        of_resource = self._request.resource_spans.add()
        _put_attributes(of_resource.resource.attributes, resource.attributes)
        of_scope = of_resource.scope_spans.add()
        of_scope.scope.name = SCOPE
        of_scope.scope.version = __version__
        of_scope.schema_url = SCHEMA_URL
        self._spans = of_scope.spans

    def add(self, records: Sequence[SpanRecord]) -> None:
        """Encode these, too."""
        for record in records:
            _put_span(self._spans.add(), record)

    def to_bytes(self) -> bytes:
        """The protobuf message."""
        message: bytes = self._request.SerializeToString()
        return message


def _put_span(span: Any, record: SpanRecord) -> None:
    span.trace_id = bytes.fromhex(record.trace_id)
    span.span_id = bytes.fromhex(record.span_id)
    if record.parent_id:
        span.parent_span_id = bytes.fromhex(record.parent_id)
    if record.state:
        span.trace_state = _printable(record.state)
    span.flags = _REMOTE if record.remote_parent else _LOCAL
    span.name = _printable(record.name)
    span.kind = _KINDS[record.kind]
    span.start_time_unix_nano = record.start
    span.end_time_unix_nano = record.end
    _put_attributes(span.attributes, record.attributes)
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
    # Set in both cases, as the SDK does: a status message that is there and says "unset".
    span.status.code = Status.StatusCode.STATUS_CODE_ERROR if record.error else Status.StatusCode.STATUS_CODE_UNSET
    span.dropped_attributes_count = record.dropped_attributes
    span.dropped_events_count = record.dropped_events
    span.dropped_links_count = record.dropped_links


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
