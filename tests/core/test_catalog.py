"""Catalog files become one catalog, whole or not at all."""

from datetime import date
from typing import Any

import pytest

from proxy.core.catalog import CatalogError, build_catalog, cross_check
from tests.core.sample_catalog import CAPACITY, DOCUMENT, OWN, TODAY, document, load, problems


def test_the_sample_loads_with_every_value_in_its_place() -> None:
    catalog = load()
    assert set(catalog.tools) == {"get_capacity", "place_order", "draw_chart"}
    assert catalog.systems["suppliers"].labels == ("confidential",)
    upstream = catalog.upstreams["suppliers-api"]
    assert (upstream.kind, upstream.url) == ("http", "http://suppliers.internal:8080/v2")
    assert (upstream.credential, upstream.owner) == ("suppliers-read", "sourcing-team")
    source = catalog.resources["supplier"]
    assert (source.upstream, source.path, source.owner, source.tenant) == (
        upstream,
        "/suppliers/{id}",
        "owner_id",
        "tenant",
    )
    assert (catalog.upstreams["in-agent"].kind, catalog.upstreams["in-agent"].url) == ("caller", None)


def test_what_is_not_declared_takes_the_worst_value() -> None:
    order = load().tools["place_order"]
    assert order.effect == "admin"
    assert not order.trusted
    assert (order.system.name, order.system.audience) == ("external", "external")
    assert load().systems["charts"].audience == "external"
    assert not order.idempotent
    assert order.retries == 0


def test_several_files_are_one_catalog_whatever_they_are_called() -> None:
    whole = load()
    systems = {"systems": DOCUMENT["systems"], "upstreams": DOCUMENT["upstreams"]}
    tools = {"tools": list(reversed(DOCUMENT["tools"])), "resources": DOCUMENT["resources"]}
    assert load(systems, tools).revision == load(tools, systems).revision == whole.revision
    assert set(load(systems, tools).tools) == set(whole.tools)


def test_any_change_is_another_revision() -> None:
    changes: list[tuple[str, Any]] = [
        ("tools/0/timeout", "251ms"),
        ("tools/0/versions/0/arguments_schema/description", "x"),
        ("systems/charts/audience", "internal"),
        ("upstreams/in-agent/owner", "x"),
        ("resources/supplier/owner", "x"),
    ]
    assert len({load(document(change)).revision for change in changes} | {load().revision}) == 6


# (what is done to the sample, the one problem that it must give)
WRONG: list[tuple[tuple[str, Any], str]] = [
    (("tool", []), "/: unknown key 'tool'; did you mean 'tools'?"),
    (("systems/crm", {"label": []}), "/systems/crm: unknown key 'label'; did you mean 'labels'?"),
    (("systems/charts/audience", "public"), '/systems/charts/audience: must be one of "internal", "external"'),
    (("systems/a b", {}), "/systems: holds a name that is not allowed"),
    (("systems/external", {}), "/systems/external: the name 'external' is taken by tools that name no system"),
    (("upstreams/in-agent/caller", ...), "/upstreams/in-agent: must have exactly one of http, mcp and caller"),
    (
        ("upstreams/in-agent/mcp", {"url": "http://kb"}),
        "/upstreams/in-agent: must have exactly one of http, mcp and caller",
    ),
    (("upstreams/kb", {"mcp": {"url": "http://kb/mcp"}}), "/upstreams/kb/mcp: mcp upstreams are not supported yet"),
    (("upstreams/in-agent/caller", {"x": 1}), "/upstreams/in-agent/caller: unknown key 'x'"),
    (("resources/supplier/upstream", "nowhere"), "/resources/supplier/upstream: there is no http upstream 'nowhere'"),
    (("resources/supplier/upstream", "in-agent"), "/resources/supplier/upstream: there is no http upstream 'in-agent'"),
    (("resources/supplier/path", "/s/{name}"), "/resources/supplier/path: must have the one placeholder {id}"),
    (("resources/supplier/path", "/s"), "/resources/supplier/path: must have the one placeholder {id}"),
    (("resources/supplier/path", "/s/{id}/{id}"), "/resources/supplier/path: must have the one placeholder {id}"),
    (("resources/supplier/path", "s/{id}"), "/resources/supplier/path: must begin with '/'"),
    (("tools/0/name", "get capacity"), "/tools/0/name: must match the pattern ^[A-Za-z0-9_-]{1,64}$"),
    (("tools/0/name", "x" * 65), "/tools/0/name: must match the pattern ^[A-Za-z0-9_-]{1,64}$"),
    (("tools/0/name", "place_order"), "/tools/1: 'place_order' is declared twice, before in 0.yaml: /tools/0"),
    (("tools/0/name", "PLACE_ORDER"), "/tools/1: 'place_order' is declared twice, before in 0.yaml: /tools/0"),
    (("tools/0/versions", []), "/tools/0/versions: must have at least 1 items"),
    (("tools/0/versions", ...), "/tools/0: key 'versions' is missing"),
]


@pytest.mark.parametrize(("change", "said"), WRONG, ids=[w[1][:60] for w in WRONG])
def test_what_is_wrong_refuses_the_whole_catalog_with_file_and_path(change: tuple[str, Any], said: str) -> None:
    found = problems(document(change))
    assert len(found) == 1, found
    assert found[0].startswith(f"0.yaml: {said}")


URLS = [
    "ftp://h/",
    "http://user:pw@h/",
    "http://h/?q=1",
    "http://h/#f",
    "http://",
    "//h/x",
    "http://h:99999",
    "http://h:0x1",
    "http://h/a/../b",
    "http://h/./b",
    "http://h/a%2e/b",
    "http://h\r\nX: y/",
    "http://h /",
    "http://h\\@other/",
    "http://[::1",
]


@pytest.mark.parametrize("url", URLS)
def test_a_base_url_is_scheme_host_port_and_plain_path(url: str) -> None:
    found = problems(document(("upstreams/suppliers-api/http/base_url", url)))
    assert len(found) == 1
    assert found[0].startswith("0.yaml: /upstreams/suppliers-api/http/base_url: must ")


@pytest.mark.parametrize("url", ["https://h", "http://127.0.0.1:8080", "http://[::1]:8080/a/b", "http://my_service/v2"])
def test_an_honest_base_url_is_taken(url: str) -> None:
    assert load(document(("upstreams/suppliers-api/http/base_url", url))).upstreams["suppliers-api"].url == url


@pytest.mark.parametrize(
    ("place", "key", "value"),
    [
        ("upstreams/suppliers-api", "headers_forwarded", []),
        ("tools/0", "wire_name", "capacity.get"),
        ("tools/0/result", "keep", ["supplier_id"]),
        ("tools/0/result", "records", [{"path": "$", "type": "supplier", "id": "supplier_id"}]),
    ],
)
def test_a_key_that_does_nothing_yet_is_refused_with_a_sentence_that_says_so(place: str, key: str, value: Any) -> None:
    found = problems(document((f"{place}/{key}", value)))
    assert list(found) == [f"0.yaml: /{place}: '{key}' is not supported yet, so it would do nothing; take it out"]


@pytest.mark.parametrize("role", ["name", "body", "traget"])
def test_a_role_that_does_nothing_yet_is_refused(role: str) -> None:
    (found,) = problems(document(("tools/1/arguments/sku", {"role": role})))
    place = "0.yaml: /tools/1/arguments/sku/role: "
    assert found == place + 'must be one of "target", "record", "secret"; body and name are not supported yet'


@pytest.mark.parametrize("text", ["a\r\nX: y", "a\nb", "a\x7f", "a\x00"])
def test_no_line_break_or_control_character_gets_into_a_request(text: str) -> None:
    for path in ("request/path", "request/query/week"):
        assert problems(document((f"tools/0/{path}", text))) != ()


def test_a_control_character_in_the_key_of_a_query_or_body_is_refused() -> None:
    assert problems(document(("tools/0/request/query", {"week\r\n": "week"}))) != ()
    assert problems(document(("tools/1/request/body/a\nb", "sku"))) != ()


def test_a_name_declared_in_two_files_names_both() -> None:
    found = problems(document(), {"systems": {"Charts": {}}})
    said = "'Charts' is declared twice, before in 0.yaml: /systems/charts (upper and lower case count as the same)"
    assert list(found) == [f"1.yaml: /systems/Charts: {said}"]


def test_the_problems_of_form_of_all_files_are_listed() -> None:
    found = problems(document(("tools/0/effect", "reed"), ("tools/1/retries", "2")), {"system": {}}, None, [])
    assert [p.split(" ")[:2] for p in found] == [
        ["0.yaml:", "/tools/0/effect:"],
        ["0.yaml:", "/tools/1/retries:"],
        ["1.yaml:", "/:"],
        ["2.yaml:", "/:"],
        ["3.yaml:", "/:"],
    ]


def test_all_that_does_not_fit_together_is_listed() -> None:
    broken = document(
        ("upstreams/kb", {"mcp": {"url": "http://kb"}}),
        ("tools/0/upstream", "nowhere"),
        ("tools/1/system", "crm"),
        ("tools/2/request", {"method": "GET", "path": "/"}),
        ("resources/supplier/path", "/x"),
    )
    places = {p.split(": ")[1] for p in problems(broken)}
    assert places == {
        "/upstreams/kb/mcp",
        "/tools/0/upstream",
        "/tools/1/system",
        "/tools/2/request",
        "/resources/supplier/path",
    }


def test_a_document_that_is_no_json_is_a_problem_and_no_exception() -> None:
    with pytest.raises(CatalogError, match="cannot be checked"):
        build_catalog([("x.yaml", {"systems": date(2026, 1, 1)})], today=TODAY)


def test_an_empty_catalog_has_no_tool() -> None:
    assert load({}).tools == {}


def test_a_name_that_the_policy_misspells_is_found() -> None:
    catalog = load()
    fine = cross_check(
        catalog, systems=["suppliers", "external"], labels=["terms", "confidential"], tools=["draw_chart"]
    )
    assert fine == []
    assert cross_check(catalog, systems=["supplier"], labels=["term"], tools=["get_capcity"]) == [
        "the policy names system 'supplier', which the catalog does not have; did you mean 'suppliers'?",
        "the policy names label 'term', which the catalog does not have; did you mean 'terms'?",
        "the policy names tool 'get_capcity', which the catalog does not have; did you mean 'get_capacity'?",
    ]
    placed = cross_check(catalog, systems=["zzz"], places={("system", "zzz"): "grants.systems.zzz"})
    assert placed == ["grants.systems.zzz: the policy names system 'zzz', which the catalog does not have"]


INSIDE = "which lies inside another argument; a policy bounds whole arguments of the top level only"


def test_an_argument_that_the_policy_bounds_must_be_in_the_newest_version() -> None:
    wanted = [
        ("place_order", "quantity"),
        ("place_order", "auth.pin"),
        ("place_order", "qty"),
        ("get_capacity", "vendor"),
    ]
    assert cross_check(load(), arguments=wanted) == [
        "the policy names argument 'vendor' of tool 'get_capacity', which the newest version does not have",
        f"the policy names argument 'auth.pin' of tool 'place_order', {INSIDE}",
        "the policy names argument 'qty' of tool 'place_order', which the newest version does not have",
    ]


def test_an_argument_whose_own_name_has_a_dot_is_one_of_the_top_level() -> None:
    """That is how Rego looks it up."""
    schema = {"type": "object", "properties": {"to.address": {"type": "string"}}}
    catalog = load(document(("tools/2/versions/0/arguments_schema", schema)))
    assert cross_check(catalog, arguments=[("draw_chart", "to.address")]) == []


def test_an_argument_that_is_bounded_for_a_whole_system_is_one_of_some_tool() -> None:
    """One that none has would refuse every call, and one that lies deeper is compared with nothing."""
    fine = [("suppliers", "read", "week"), ("charts", "write", "anything"), ("external", "admin", "quantity")]
    assert cross_check(load(), bounds=fine) == []
    said = "the policy bounds argument '{}' of tools of system 'external' with effect admin, and none of them has it at the "
    assert cross_check(load(), bounds=[("external", "admin", "auth.pin"), ("external", "admin", "qty")]) == [
        said.format("auth.pin") + "top level",
        said.format("qty") + "top level",
    ]


def test_nothing_is_asked_of_the_arguments_of_a_quarantined_tool() -> None:
    catalog = load(document(("tools/1/versions/0/arguments_schema/properties", 7)))
    assert cross_check(catalog, tools=["place_order"], arguments=[("place_order", "quantity")]) == []


def test_credentials_are_checked_against_the_settings_where_these_are_given() -> None:
    said = "upstream 'suppliers-api' names credential 'suppliers-read', which the settings do not have"
    assert cross_check(load(), credentials=["other"]) == [said]
    assert cross_check(load(), credentials=["suppliers-read"]) == cross_check(load()) == []


def test_one_broken_tool_leaves_the_others_working() -> None:
    widget = dict(CAPACITY, name="widget")
    widget["versions"] = [dict(CAPACITY["versions"][0], result_schema={"$ref": "#/$defs/Widget"})]
    tree = dict(OWN, name="tree")
    node = {"type": "object", "properties": {"kids": {"type": "array", "items": {"$ref": "#"}}}}
    tree["versions"] = [{"version": "1", "arguments_schema": node}]
    catalog = load(document(("tools", [CAPACITY, widget, tree])))
    assert [t.quarantined is None for t in catalog.tools.values()] == [True, False, True]
    assert catalog.tools["tree"].versions[0].arguments.problems({"kids": [{"kids": []}]}) == []
    assert catalog.tools["tree"].versions[0].arguments.problems({"kids": [{"x": 1}]}) != []
