"""Tools as values: what policy can name, what may be believed, which arguments have a role."""

from dataclasses import replace

import pytest

from proxy.core.tool import Argument, Catalog, ResultRule, Snapshot, System, Upstream
from tests.contracts.store_values import tool


def test_marks_are_system_effect_and_each_label() -> None:
    """In this order, so that documents of one call are the same bytes."""
    assert tool("t", system="pricing", labels=["a", "b"], effect="send").marks == (
        "system:pricing",
        "effect:send",
        "label:a",
        "label:b",
    )


@pytest.mark.parametrize(("paths", "trusted"), [((), False), (("a",), False), (("$",), True)])
def test_a_result_is_untrusted_unless_the_catalog_trusts_all_of_its_text(paths: tuple[str, ...], trusted: bool) -> None:
    """What says nothing is untrusted; without a schema a path says nothing of the rest."""
    assert replace(tool("t"), result=ResultRule(trusted_paths=paths)).trusted is trusted


def test_what_is_passed_on_although_it_breaks_its_schema_is_untrusted() -> None:
    assert not replace(tool("t"), result=ResultRule(trusted_paths=("$",), pass_invalid=True)).trusted


def test_every_version_has_to_be_trusted() -> None:
    closed = {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}
    version = tool("t").versions[0]
    good, bad = replace(version, result_schema=closed), replace(version, version="0", result_schema=None)
    rule = ResultRule(trusted_paths=("a",))
    assert replace(tool("t"), result=rule, versions=(good,)).trusted
    assert not replace(tool("t"), result=rule, versions=(good, bad)).trusted


def test_arguments_are_found_by_their_role() -> None:
    """In the catalog's order; none of a role is none."""
    found = replace(
        tool("t"),
        arguments=(
            Argument(path="b", role="secret"),
            Argument(path="x.y", role="record", resource="c"),
            Argument(path="a", role="secret"),
        ),
    )
    assert (found.paths("secret"), found.paths("record"), found.paths("target")) == (("b", "a"), ("x.y",), ())


def test_what_is_not_declared_takes_the_worst_value() -> None:
    """A system is external, a result holds nothing trusted, an upstream has no credential."""
    assert System(name="s").audience == "external"
    assert ResultRule().trusted_paths == ()
    assert Upstream(name="u", kind="http").credential is None
    assert not ResultRule().pass_invalid


def test_a_snapshot_is_named_by_both_revisions() -> None:
    """A change of either is another name."""
    catalog = Catalog(revision="c" * 64, systems={}, upstreams={}, tools={}, resources={})
    one = Snapshot(catalog=catalog, policy_revision="p" * 64)
    assert one.revision == "c" * 12 + "." + "p" * 12
    assert replace(one, policy_revision="q" * 64).revision != one.revision
    assert replace(one, catalog=replace(catalog, revision="d" * 64)).revision != one.revision
