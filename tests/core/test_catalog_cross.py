"""What must fit together inside one tool entry."""

from typing import Any

import pytest

from proxy.core.catalog_cross import path_problem
from tests.core.sample_catalog import COUNT, TEXT, document, load, problems

SCHEMA = "tools/0/versions/0/arguments_schema"
OLD = "tools/0/versions/1"

# (what is done to the sample, every problem that it must give: path and sentence)
WRONG: list[tuple[list[tuple[str, Any]], list[str]]] = [
    (
        [("tools/0/request/query", ...)],
        ["/tools/0/request: argument 'week' has no place in the request"],
    ),
    (
        [("tools/1/request/body", {"sku": "sku"})],
        [
            "/tools/1/request: argument 'auth' has no place in the request",
            "/tools/1/request: argument 'quantity' has no place in the request",
        ],
    ),
    (
        [("tools/0/request/query/day", "day")],
        ["/tools/0/request/query/day: there is no argument 'day'"],
    ),
    (
        [("tools/1/request/body/note", "note")],
        ["/tools/1/request/body/note: there is no argument 'note'"],
    ),
    (
        [("tools/0/request/path", "/suppliers/{supplier_id}/../capacity")],
        ["/tools/0/request/path: must not have empty, '.' or '..' segments"],
    ),
    (
        [("tools/0/request/body", {})],
        ["/tools/0/request/body: a GET request has no body"],
    ),
    (
        [("tools/1/request/method", "DELETE")],
        ["/tools/1/request/body: a DELETE request has no body"],
    ),
    (
        [("tools/1/request/query", {"auth": "auth"})],
        ["/tools/1/request/query/auth: argument 'auth' is an object, which has no place in a query"],
    ),
    (
        [("tools/0/request/path", "/suppliers/{supplier_id}/{plant}")],
        ["/tools/0/request/path: there is no argument 'plant'"],
    ),
    (
        [(f"{SCHEMA}/required", [])],
        ["/tools/0/request/path: argument 'supplier_id' stands in the path and must be required"],
    ),
    (
        [(f"{SCHEMA}/properties/supplier_id", {"type": ["string", "null"]})],
        ["/tools/0/request/path: argument 'supplier_id' stands in the path and must be of type string or integer"],
    ),
    (
        [(f"{SCHEMA}/properties/supplier_id", {"type": "number"})],
        ["/tools/0/request/path: argument 'supplier_id' stands in the path and must be of type string or integer"],
    ),
    (
        [(f"{SCHEMA}/additionalProperties", True)],
        ["/tools/0/request: the arguments_schema lets other properties through, which have no place in the request"],
    ),
    (
        [(f"{SCHEMA}/patternProperties", {"^x": True})],
        ["/tools/0/request: the arguments_schema lets other properties through, which have no place in the request"],
    ),
    (
        [("tools/0/request", ...)],
        ["/tools/0: a tool of an http upstream needs a request"],
    ),
    (
        [("tools/2/request", {"method": "GET", "path": "/{title}"})],
        [
            "/tools/2/request: an upstream of kind caller takes no request",
            "/tools/2/request/path: argument 'title' stands in the path and must be required",
        ],
    ),
    (
        [("tools/0/arguments/suplier_id", {"role": "target"})],
        ["/tools/0/arguments/suplier_id: there is no such argument in the newest version"],
    ),
    (
        [("tools/1/arguments", {"auth.pn": {"role": "secret"}})],
        ["/tools/1/arguments/auth.pn: there is no such argument in the newest version"],
    ),
    (
        [("tools/0/arguments/supplier_id", {"role": "record"})],
        ["/tools/0/arguments/supplier_id: role record and a resource belong together"],
    ),
    (
        [("tools/0/arguments/supplier_id", {"role": "target", "resource": "supplier"})],
        ["/tools/0/arguments/supplier_id: role record and a resource belong together"],
    ),
    (
        [("tools/0/arguments/supplier_id/resource", "plier")],
        ["/tools/0/arguments/supplier_id: there is no resource 'plier'"],
    ),
    (
        [("resources", {})],
        ["/tools/0/arguments/supplier_id: there is no resource 'supplier'"],
    ),
    (
        [(f"{OLD}/version", "2")],
        ["/tools/0/versions/1: version '2' is declared twice"],
    ),
    (
        [(f"{OLD}/version", "10")],
        ["/tools/0/versions/1: versions must stand newest first"],
    ),
    (
        [("tools/0/versions/0/version", "1.9"), (f"{OLD}/version", "1.10")],
        ["/tools/0/versions/1: versions must stand newest first"],
    ),
    (
        [("tools/0/versions/0/upgrade", {})],
        ["/tools/0/versions/0/upgrade: the newest version has nothing to be upgraded to"],
    ),
    (
        [("tools/0/versions/0/supported_until", "2027-02-28")],
        ["/tools/0/versions/1: an older version is supported for longer than a newer one"],
    ),
    (
        [(f"{OLD}/upgrade/rename/sku", "week"), (f"{OLD}/upgrade/default", {})],
        ["/tools/0/versions/1/upgrade: version 1 has no argument 'sku'"],
    ),
    (
        [(f"{OLD}/upgrade/drop", ["verbose", "sku"])],
        ["/tools/0/versions/1/upgrade: version 1 has no argument 'sku'"],
    ),
    (
        [(f"{OLD}/upgrade/drop", ["verbose", "vendor"])],
        ["/tools/0/versions/1/upgrade: argument 'vendor' is renamed and dropped"],
    ),
    (
        [(f"{OLD}/upgrade/rename/verbose", "supplier_id"), (f"{OLD}/upgrade/drop", [])],
        ["/tools/0/versions/1/upgrade: two arguments would become 'supplier_id'"],
    ),
    (
        [(f"{OLD}/arguments_schema/properties/supplier_id", TEXT)],
        ["/tools/0/versions/1/upgrade: two arguments would become 'supplier_id'"],
    ),
    (
        [(f"{OLD}/arguments_schema/properties/supplier_id", TEXT), (f"{OLD}/upgrade/drop", ["verbose", "supplier_id"])],
        ["/tools/0/versions/1/upgrade: two arguments would become 'supplier_id'"],
    ),
    (
        [(f"{OLD}/upgrade/drop", [])],
        ["/tools/0/versions/1/upgrade: version 2 has no argument 'verbose'; rename or drop it"],
    ),
    (
        [(f"{OLD}/upgrade/default/day", 1)],
        ["/tools/0/versions/1/upgrade: version 2 has no argument 'day'; rename or drop it"],
    ),
    (
        [(f"{OLD}/upgrade/rename", {}), (f"{OLD}/upgrade/drop", ["verbose", "vendor"])],
        ["/tools/0/versions/1/upgrade: version 2 requires 'supplier_id', which comes from nowhere"],
    ),
    (
        [(f"{OLD}/upgrade/default/week", "1")],
        ["/tools/0/versions/1/upgrade/default: /week must be integer, got string"],
    ),
    (
        [(f"{OLD}/upgrade", ...)],
        [
            "/tools/0/versions/1/upgrade: version 2 has no argument 'vendor'; rename or drop it",
            "/tools/0/versions/1/upgrade: version 2 has no argument 'verbose'; rename or drop it",
            "/tools/0/versions/1/upgrade: version 2 requires 'supplier_id', which comes from nowhere",
        ],
    ),
]


@pytest.mark.parametrize(("changes", "said"), WRONG, ids=[w[1][0][:70] for w in WRONG])
def test_what_does_not_fit_refuses_the_catalog_with_its_place(changes: list[tuple[str, Any]], said: list[str]) -> None:
    assert list(problems(document(*changes))) == [f"0.yaml: {s}" for s in said]


@pytest.mark.parametrize(
    "changes",
    [
        [("tools/0/request/path", "/suppliers/{supplier_id}:capacity")],
        [(f"{SCHEMA}/properties/supplier_id", {"type": "integer"})],
        [(f"{SCHEMA}/$defs", {"id": TEXT}), (f"{SCHEMA}/properties/supplier_id", {"$ref": "#/$defs/id"})],
        [(f"{SCHEMA}/properties/week", {"type": "array", "items": COUNT}), (f"{OLD}/upgrade/default/week", [1])],
        [("tools/1/arguments", {"auth": {"role": "secret"}, "sku": {"role": "target"}})],
        [(f"{OLD}/version", "beta")],
        [(f"{OLD}/supported_until", ...)],
    ],
)
def test_what_fits_is_taken(changes: list[tuple[str, Any]]) -> None:
    assert load(document(*changes)).tools["get_capacity"].quarantined is None


def test_arguments_of_branches_and_references_need_a_place_too() -> None:
    found = problems(document((f"{SCHEMA}/allOf", [{"properties": {"day": COUNT}}])))
    assert list(found) == ["0.yaml: /tools/0/request: argument 'day' has no place in the request"]


PATHS = [
    "",
    "a",
    "a/b",
    "//a",
    "/a//b",
    "/a/../b",
    "/a/./b",
    "/..",
    "/a?b",
    "/a#b",
    "/a b",
    "/%2e%2e/a",
    "/{a",
    "/a}",
    "/\\a",
]


@pytest.mark.parametrize("path", [*PATHS, "/a\nb", "/é"])
def test_a_path_neither_ends_early_nor_climbs_out(path: str) -> None:
    assert path_problem(path) is not None


@pytest.mark.parametrize("path", ["/", "/a", "/a/", "/a/{b}/c.d_e~f-g", "/{a}-{b}", "/a:verb", "/a,b;c=d@e"])
def test_a_plain_path_is_taken(path: str) -> None:
    assert path_problem(path) is None
