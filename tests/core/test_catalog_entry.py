"""Where a declaration stands."""

from proxy.core.catalog_entry import CatalogError, Entry, Parts


def test_a_part_of_an_entry_knows_its_json_pointer() -> None:
    entry = Entry("a.yaml", "/tools/0", {"versions": [{"a/b~c": 1}]})
    part = entry.sub("versions", 0, "a/b~c")
    assert part.data == 1
    assert part.says("is wrong") == "a.yaml: /tools/0/versions/0/a~1b~0c: is wrong"


def test_a_part_that_is_not_there_has_a_place_and_no_data() -> None:
    part = Entry("a.yaml", "", {"x": 1}).sub("y", "z")
    assert (part.path, part.data) == ("/y/z", None)


def test_an_error_lists_its_problems_line_by_line() -> None:
    error = CatalogError(["one", "two"])
    assert error.problems == ("one", "two")
    assert str(error) == "one\ntwo"


def test_the_content_does_not_depend_on_files_or_places() -> None:
    one, two = Parts(), Parts()
    one.tools["t"] = Entry("a.yaml", "/tools/0", {"name": "t"})
    two.tools["t"] = Entry("b.yaml", "/tools/7", {"name": "t"})
    assert (
        one.content()
        == two.content()
        == {"systems": {}, "upstreams": {}, "resources": {}, "tools": {"t": {"name": "t"}}}
    )
