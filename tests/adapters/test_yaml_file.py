"""Strict YAML: JSON types by the core schema of YAML 1.2, everything with two meanings refused with its place."""

import os
import time
from pathlib import Path

import pytest
import yaml

from proxy.adapters.yaml_file import MAX_BYTES, MAX_NODES, YamlError, load_directory, load_yaml, parse_yaml

VALUES = [
    ("yes", "yes"),
    ("No", "No"),
    ("on", "on"),
    ("off", "off"),
    ("y", "y"),
    ("true", True),
    ("False", False),
    ("null", None),
    ("~", None),
    ("", None),
    ("2027-03-01", "2027-03-01"),
    ("2027-03-01T10:00:00Z", "2027-03-01T10:00:00Z"),
    ("1:30", "1:30"),
    ("1_000", "1_000"),
    ("0b11", "0b11"),
    ("12", 12),
    ("-3", -3),
    ("0", 0),
    ("0o17", 15),
    ("0x1F", 31),
    ("1.5", 1.5),
    (".5", 0.5),
    ("1e3", 1000.0),
    ("1.10", 1.1),
    ("'12'", "12"),
    ('"true"', "true"),
    ("18446744073709551617", 2**64 + 1),
    ("=", "="),
]


@pytest.mark.parametrize(("text", "value"), VALUES, ids=[v[0] or "nothing" for v in VALUES])
def test_plain_text_becomes_json_types_by_the_core_schema(text: str, value: object) -> None:
    parsed = parse_yaml(f"a: {text}".encode(), "f.yaml")
    assert parsed == {"a": value}
    assert type(parsed["a"]) is type(value)


REFUSED = [
    (b"a: 1\nb: 2\na: 3", "3:1: the key 'a' occurs twice"),
    (b"a:\n  b: 1\n  'b': 2", "3:3: the key 'b' occurs twice"),
    (b"&k a: 1\n*k : 2", "2:1: the key 'a' occurs twice"),
    (b"1: x", "1:1: a key must be text; quote it"),
    (b"true: x", "1:1: a key must be text; quote it"),
    (b"? [a]\n: x", "1:3: a key must be text; quote it"),
    (b"b: &x {a: 1}\nc:\n  <<: *x", "3:3: merge keys (<<) are not supported"),
    (b"a: !!str 5", "1:4: the tag tag:yaml.org,2002:str is not supported; quote what is text"),
    (b"a: !!python/object:os.system {}", "1:4: the tag tag:yaml.org,2002:python/object:os.system is not supported"),
    (b"a: 0123", "1:4: a number with a leading zero"),
    (b"a: .inf", "1:4: infinity and not-a-number are no JSON numbers"),
    (b"a: .NaN", "1:4: infinity and not-a-number are no JSON numbers"),
    (b"a: 1e999", "1:4: a number out of range"),
    (b"a: " + b"9" * 5000, "1:4: a number is too long"),
    (b"a: *x", "1:4: the alias *x has no anchor before it"),
    (b"a: &x [*x]", "1:8: the alias *x has no anchor before it"),
    (b"a: 1\n---\nb: 2", "2:1: a second document"),
    (b"", "1:1: the file is empty"),
    (b"# only a comment\n", "the file is empty"),
    (b"a: [1", "did not find expected"),
    (b"a: 1\n b: 2", "2:3: mapping values are not allowed"),
    (b"\ta: 1", "1:1: found character that cannot start any token"),
    (b"a: \x01", "1:4: control characters are not allowed"),
    (b"x: 1\na: \xff", "2:4: is not UTF-8"),
    (b'a: "\\ud800"', "found invalid Unicode character escape code"),
    (b"a: " + b"[" * 100 + b"]" * 100, "nested deeper than 64 levels"),
    (b"a: 'x", "found unexpected end of stream"),
]


@pytest.mark.parametrize(("text", "said"), REFUSED, ids=[r[1][:60] for r in REFUSED])
def test_what_has_two_meanings_or_none_is_refused_with_file_line_and_column(text: bytes, said: str) -> None:
    with pytest.raises(YamlError) as caught:
        parse_yaml(text, "f.yaml")
    (problem,) = caught.value.problems
    assert problem.startswith("f.yaml:")
    assert said in problem


def test_aliases_repeat_a_value() -> None:
    assert parse_yaml(b"a: &x [1]\nb: *x", "f") == {"a": [1], "b": [1]}


def test_a_byte_order_mark_is_not_part_of_the_first_key() -> None:
    assert parse_yaml(b"\xef\xbb\xbfa: 1", "f") == {"a": 1}


def test_a_billion_laughs_are_refused_in_bounded_time() -> None:
    lines = [b"a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [b"a%d: &a%d [%s]" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 10)) for n in range(1, 12)]
    began = time.process_time()
    with pytest.raises(YamlError, match=f"more than {MAX_NODES} values"):
        parse_yaml(b"\n".join(lines), "f")
    assert time.process_time() - began < 1.0


def test_a_file_is_read_up_to_a_limit(tmp_path: Path) -> None:
    (tmp_path / "big.yaml").write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(YamlError, match=f"big\\.yaml: is larger than {MAX_BYTES} bytes"):
        load_yaml(tmp_path / "big.yaml")


@pytest.mark.parametrize("name", ["missing.yaml", "folder", "pipe"])
def test_what_is_not_a_regular_file_is_refused_without_waiting(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(YamlError, match=f"{name}: is not a file"):
        load_yaml(tmp_path / name)


def test_a_directory_gives_its_yaml_files_by_name(tmp_path: Path) -> None:
    (tmp_path / "b.yml").write_text("n: 2")
    (tmp_path / "a.yaml").write_text("n: 1")
    (tmp_path / "notes.md").write_text("n: [")
    (tmp_path / ".hidden.yaml").write_text("n: [")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.yaml").write_text("n: [")
    assert load_directory(tmp_path) == [("a.yaml", {"n": 1}), ("b.yml", {"n": 2})]


def test_a_mounted_config_map_gives_each_file_once(tmp_path: Path) -> None:
    real = tmp_path / "..2026_11_25_10_00_00.1"
    real.mkdir()
    (real / "tools.yaml").write_text("n: 1")
    (tmp_path / "..data").symlink_to(real.name)
    (tmp_path / "tools.yaml").symlink_to("..data/tools.yaml")
    assert load_directory(tmp_path) == [("tools.yaml", {"n": 1})]


def test_the_problems_of_all_files_of_a_directory_are_listed(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("n: [")
    (tmp_path / "b.yaml").write_text("n: 1")
    (tmp_path / "c.yaml").write_text("n: 1\nn: 2")
    with pytest.raises(YamlError) as caught:
        load_directory(tmp_path)
    assert [p.split(":")[0] for p in caught.value.problems] == ["a.yaml", "c.yaml"]


def test_a_directory_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(YamlError, match="catalog: cannot be read: No such file or directory"):
        load_directory(tmp_path / "catalog")


def test_a_dangling_link_is_a_problem_and_not_a_smaller_catalog(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").symlink_to("gone.yaml")
    with pytest.raises(YamlError, match=r"a\.yaml: is not a file"):
        load_directory(tmp_path)


def test_a_path_that_the_system_refuses_is_said(tmp_path: Path) -> None:
    with pytest.raises(YamlError, match="cannot be read: File name too long"):
        load_yaml(tmp_path / ("x" * 300))


@pytest.mark.parametrize("loader", [yaml.SafeLoader, yaml.CSafeLoader])
@pytest.mark.parametrize("text", [b'a: "\\uD800"', b'"\\uDFFF": 1'])
def test_half_of_a_surrogate_pair_is_an_error_with_either_parser(loader: type, text: bytes) -> None:
    """It could be neither hashed nor sent to OPA."""
    with pytest.raises(YamlError, match=r"f:1:"):
        parse_yaml(text, "f", loader=loader)
