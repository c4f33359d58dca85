"""The standard variables, read from a mapping and never from the process."""

import subprocess
import sys

import pytest

from proxy import __version__
from proxy.telemetry.variables import on, pairs, read_limits, read_resource, read_sampling, whole
from tests.telemetry.samples import SECRET


def test_the_resource_says_who_emits() -> None:
    """Ours below, what the operator gave above."""
    plain = read_resource({}).attributes
    given = read_resource(
        {
            "OTEL_RESOURCE_ATTRIBUTES": "k8s.pod.name=buyer-0, k8s.namespace.name=agents,team=a%20b%2Cc,service.name=x",
            "OTEL_SERVICE_NAME": "gate",
        }
    ).attributes
    assert plain["service.name"] == "sidegate"
    assert plain["service.version"] == __version__
    assert plain["service.instance.id"] != given["service.instance.id"]
    assert given["service.name"] == "gate"
    assert (given["k8s.pod.name"], given["k8s.namespace.name"], given["team"]) == ("buyer-0", "agents", "a b,c")


def test_the_service_name_may_come_with_the_attributes() -> None:
    """Without OTEL_SERVICE_NAME."""
    assert read_resource({"OTEL_RESOURCE_ATTRIBUTES": "service.name=x"}).attributes["service.name"] == "x"


def test_a_broken_pair_is_left_out_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    """A header variable holds credentials."""
    assert pairs(f"a=1,{SECRET},=2,,b=x=y", "V") == {"a": "1", "b": "x=y"}
    assert "key=value" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("value", ["-1", "1e3", "many", "٣", "9" * 13])
def test_a_number_that_is_none_is_its_default(value: str, caplog: pytest.LogCaptureFixture) -> None:
    """With a warning that names the variable."""
    assert whole({"N": value}, "N", 7) == 7
    assert "N is no whole number" in caplog.text


def test_empty_is_unset() -> None:
    """As the specification says of all variables."""
    assert whole({"N": " "}, "N", 7) == 7
    assert read_limits({"OTEL_ATTRIBUTE_COUNT_LIMIT": ""}).attributes == 128
    assert read_sampling({"OTEL_TRACES_SAMPLER": ""}).parent_based


def test_the_general_count_holds_for_spans_unless_they_have_their_own() -> None:
    """OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT over OTEL_ATTRIBUTE_COUNT_LIMIT."""
    assert read_limits({"OTEL_ATTRIBUTE_COUNT_LIMIT": "5"}).attributes == 5
    both = {"OTEL_ATTRIBUTE_COUNT_LIMIT": "5", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "6"}
    assert read_limits(both).attributes == 6


@pytest.mark.parametrize(("value", "expected"), [("true", True), ("TRUE", True), ("1", False), ("yes", False)])
def test_a_switch_is_on_only_if_it_says_true(value: str, expected: bool) -> None:
    """OpenTelemetry's rule for booleans."""
    assert on({"S": value}, "S") is expected


def test_the_process_environment_is_not_read() -> None:
    """Settings come from one place."""
    script = (
        "from proxy.telemetry.variables import read_resource, read_sampling;"
        "print(read_resource({}).attributes['service.name'], read_sampling({}).bound == 1 << 64)"
    )
    environment = {"OTEL_SERVICE_NAME": "elsewhere", "OTEL_TRACES_SAMPLER": "always_off", "PYTHONPATH": "."}
    ran = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout == "sidegate True\n"
