"""One catalog entry becomes one tool."""

from datetime import date, timedelta
from typing import Any

import pytest

from proxy.core.catalog_tool import DEFAULT_MAX_BYTES, DEFAULT_TIMEOUT
from proxy.core.tool import Argument, FailureWhen, Upgrade
from tests.core.sample_catalog import CAPACITY, document, load, problems, tool


def test_every_value_of_an_entry_arrives() -> None:
    it = tool()
    assert (it.name, it.description) == ("get_capacity", "Weekly capacity of one supplier.")
    assert (it.effect, it.risk, it.timeout, it.idempotent, it.retries) == ("read", "low", 0.25, True, 2)
    assert it.marks == ("system:suppliers", "effect:read", "label:terms", "label:confidential")
    assert it.request is not None
    assert (it.request.method, it.request.path) == ("GET", "/suppliers/{supplier_id}/capacity")
    assert (it.request.query, it.request.body) == ({"week": "week"}, None)
    assert it.arguments == (Argument(path="supplier_id", role="record", resource="supplier"),)
    assert it.result.trusted_paths == ("weekly_capacity",)
    assert it.result.max_bytes == 1024
    assert it.result.failure_when == FailureWhen(path="ok", equals=False)
    assert [v.version for v in it.versions] == ["2", "1"]
    assert it.versions[1].supported_until == date(2027, 3, 1)
    assert it.versions[1].upgrade == Upgrade(rename={"vendor": "supplier_id"}, drop=("verbose",), default={"week": 1})


def test_what_is_left_out_has_a_default() -> None:
    order = tool("place_order")
    assert (order.description, order.risk) == ("", None)
    assert (order.timeout, order.result.max_bytes) == (DEFAULT_TIMEOUT, DEFAULT_MAX_BYTES)
    assert order.result.media_type == "application/json"
    assert not order.result.pass_invalid
    assert order.versions[0].result is None


def test_a_label_of_tool_and_system_counts_once() -> None:
    assert tool("get_capacity", ("tools/0/labels", ["confidential"])).labels == ("confidential",)


@pytest.mark.parametrize(
    ("text", "seconds"), [("250ms", 0.25), ("3s", 3.0), ("1.5s", 1.5), ("2m", 120.0), ("10m", 600.0)]
)
def test_durations_have_a_unit(text: str, seconds: float) -> None:
    assert tool("get_capacity", ("tools/0/timeout", text)).timeout == seconds


@pytest.mark.parametrize("timeout", ["0s", "0ms", "601s", "11m", "999999m", "3", "3 s", "-1s", "1h", 3])
def test_a_timeout_without_unit_sense_or_limit_is_refused(timeout: Any) -> None:
    (problem,) = problems(document(("tools/0/timeout", timeout)))
    assert problem.startswith("0.yaml: /tools/0/timeout: must ")


# (what is done to the arguments schema of the newest version, what the quarantine says)
BROKEN: list[tuple[str, Any, str]] = [
    ("versions/0/arguments_schema/type", "strin", "version 2: arguments_schema: /type: must be object"),
    ("versions/0/arguments_schema/type", ..., "version 2: arguments_schema: /type: must be object"),
    ("versions/0/arguments_schema/properties/week", {"minimum": "x"}, 'week/minimum: "x" is not of type "number"'),
    ("versions/0/arguments_schema/properties/week", {"$ref": "http://127.0.0.1/x"}, "Retrieval is disabled"),
    ("versions/0/result_schema", {"$ref": "#/$defs/Widget"}, "version 2: result_schema: /: Pointer"),
    ("versions/0/result_schema/type", None, "version 2: result_schema: /type: null is not valid"),
    ("versions/0/result_schema/properties", None, "version 2: result_schema: /properties: null is not of type"),
    (
        "versions/1/arguments_schema/properties",
        7,
        'version 1: arguments_schema: /properties: 7 is not of type "object"',
    ),
]


@pytest.mark.parametrize(("path", "value", "said"), BROKEN, ids=[b[2] for b in BROKEN])
def test_an_unusable_schema_quarantines_its_tool_alone(path: str, value: Any, said: str) -> None:
    catalog = load(document((f"tools/0/{path}", value)))
    broken = catalog.tools["get_capacity"]
    assert said in (broken.quarantined or "")
    assert catalog.tools["place_order"].quarantined is None


def test_nothing_is_valid_against_a_schema_that_cannot_be_used() -> None:
    broken = tool("get_capacity", ("tools/0/versions/0/arguments_schema/type", "strin"))
    assert broken.versions[0].arguments.problems({"supplier_id": "s-1"}) != []


def test_arguments_are_closed_and_results_are_not() -> None:
    newest = tool().versions[0]
    assert newest.arguments.problems({"supplier_id": "s", "weak": 1}) == [
        ("", "unknown argument 'weak'; did you mean 'week'?")
    ]
    assert newest.arguments_schema["additionalProperties"] is False
    assert newest.result is not None
    assert newest.result.problems({"new_field": 1}) == []
    assert newest.result.problems({"weekly_capacity": "x"}) == [("/weekly_capacity", "must be integer, got string")]


def test_the_digest_covers_the_entry_its_system_and_its_upstream_and_nothing_else() -> None:
    changes: list[tuple[str, Any]] = [
        ("tools/0/description", "x"),
        ("tools/0/versions/0/arguments_schema/properties/week", {"type": "integer"}),
        ("systems/suppliers/audience", "external"),
        ("upstreams/suppliers-api/http/base_url", "http://other"),
    ]
    digests = {tool("get_capacity", change).digest for change in changes}
    assert len(digests | {tool().digest}) == 5
    assert tool("get_capacity", ("tools/1/risk", "high")).digest == tool().digest
    reordered = dict(reversed(CAPACITY.items()))
    assert tool("get_capacity", ("tools/0", reordered)).digest == tool().digest


def test_a_tool_whose_last_version_has_ended_is_retired_and_the_catalog_still_loads() -> None:
    end = date(2026, 11, 25)
    ending = document(("tools/2/versions/0/supported_until", end.isoformat()))
    assert load(ending, today=end).tools["draw_chart"].quarantined is None
    retired = load(ending, today=end + timedelta(days=1)).tools["draw_chart"].quarantined
    assert retired == "retired: supported until 2026-11-25"


def test_an_end_that_is_no_day_is_a_problem() -> None:
    """Python's calendar begins with year 1; the JSON Schema library's does not."""
    for day in ("0000-01-01", "2027-02-30"):
        (found,) = problems(document(("tools/0/versions/1/supported_until", day)))
        assert found.startswith("0.yaml: /tools/0/versions/1/supported_until: must ")


def test_an_undeclared_system_or_upstream_is_a_problem() -> None:
    found = problems(document(("tools/0/system", "crm"), ("tools/0/upstream", "crm-api")))
    assert found == (
        "0.yaml: /tools/0/system: there is no system 'crm'",
        "0.yaml: /tools/0/upstream: there is no upstream 'crm-api'",
    )
