"""Digests that name a call, and masks of secrets."""

import itertools
import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.digest import call_digest, mask, sha256_of
from proxy.core.strict_json import read_tree, write

KEY = b"k" * 32
TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
LOWER = st.text(alphabet="abcdefgh", min_size=1, max_size=4)
NUMBER = st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(LOWER, inner, max_size=3),
    max_leaves=12,
)
OBJECTS = st.dictionaries(LOWER, VALUES, max_size=4)


def digest(text: str | bytes, tool: str = "t", key: bytes = KEY) -> str:
    return call_digest(tool, read_tree(text.encode() if isinstance(text, str) else text), key)


def reversed_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: reversed_keys(value[k]) for k in reversed(list(value))}
    return [reversed_keys(v) for v in value] if isinstance(value, list) else value


@given(OBJECTS)
def test_the_order_of_keys_does_not_matter_at_any_depth(value: dict[str, Any]) -> None:
    assert digest(json.dumps(value)) == digest(json.dumps(reversed_keys(value)))


@given(OBJECTS, OBJECTS)
def test_different_arguments_have_different_digests(one: dict[str, Any], other: dict[str, Any]) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (digest(json.dumps(one)) == digest(json.dumps(other))) is same


@given(OBJECTS)
def test_white_space_and_escapes_do_not_matter(value: dict[str, Any]) -> None:
    spaced = json.dumps(value, indent=2, ensure_ascii=True)
    assert digest(spaced) == digest(json.dumps(value, ensure_ascii=False))


DIFFERENT = ["1", "1.0", "1e0", "10e-1", "1.00", '"1"', "true", "[1]", "null"]


def test_numbers_are_their_tokens() -> None:
    digests = [digest('{"a":' + token + "}") for token in DIFFERENT]
    assert len(set(digests)) == len(DIFFERENT)


def test_numbers_that_are_one_double_are_two_amounts() -> None:
    assert digest('{"a":9007199254740993}') != digest('{"a":9007199254740992}')
    assert digest('{"a":0.1}') != digest('{"a":0.1000000000000000055}')


def test_items_in_another_order_are_another_call() -> None:
    assert digest('{"a":[1,2]}') != digest('{"a":[2,1]}')


def test_the_tool_matters() -> None:
    assert digest('{"a":1}', tool="t") != digest('{"a":1}', tool="tt")


def test_the_key_matters() -> None:
    assert digest("{}") != digest("{}", key=b"other")


def test_a_digest_is_64_hex_digits() -> None:
    assert len(bytes.fromhex(digest("{}"))) == 32


def test_strings_are_escaped_as_rfc_8785_says() -> None:
    text = "".join(map(chr, range(1, 0x80))) + "\u2028é"
    short = {8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}
    wanted = "".join(short.get(ord(c), c if ord(c) >= 0x20 else f"\\u{ord(c):04x}") for c in text)
    assert write(text).decode() == f'"{wanted}"'


def test_declarations_have_one_digest_whatever_the_order_of_their_keys() -> None:
    assert sha256_of({"a": 1, "b": {"c": "é", "d": 2}}) == sha256_of({"b": {"d": 2, "c": "é"}, "a": 1})
    assert sha256_of({"a": 1}) != sha256_of({"a": 1.0})


TREE = '{"pin":"1234","auth":{"token":"t","user":"u"},"cards":[{"cvv":123},{"cvv":124,"name":"n"}],"none":null}'


def masked(*paths: str, text: str = TREE, key: bytes = KEY) -> Any:
    return json.loads(orjson.dumps(mask(read_tree(text.encode()), paths, key)))


def test_a_secret_becomes_a_keyed_hash_and_the_rest_stays() -> None:
    tree = masked("pin")
    assert tree["pin"].startswith("hmac:")
    assert len(tree["pin"]) == 21
    assert {k: v for k, v in tree.items() if k != "pin"} == {k: v for k, v in json.loads(TREE).items() if k != "pin"}


def test_secrets_are_found_below_objects_and_arrays() -> None:
    tree = masked("auth.token", "cards.cvv")
    assert tree["auth"]["user"] == "u"
    assert tree["cards"][1]["name"] == "n"
    hashes = [tree["auth"]["token"], tree["cards"][0]["cvv"], tree["cards"][1]["cvv"]]
    assert all(h.startswith("hmac:") for h in hashes)
    assert len(set(hashes)) == 3


def test_a_whole_object_may_be_a_secret() -> None:
    assert masked("auth")["auth"].startswith("hmac:")
    assert masked("auth") == masked("auth", text=TREE.replace('"token":"t","user":"u"', '"user":"u","token":"t"'))


def test_a_scalar_in_place_of_the_object_that_holds_the_secret_is_masked() -> None:
    tree = masked("auth.token", text='{"auth":"all-of-it"}')
    assert "all-of-it" not in str(tree)
    assert masked("auth.token", text='{"auth":["a",{"token":"b"}]}')["auth"][0].startswith("hmac:")


def test_null_and_what_is_not_there_stay() -> None:
    assert masked("none", "nowhere", "auth.nowhere") == json.loads(TREE)


def test_equal_secrets_are_seen_to_be_equal_and_only_under_one_key() -> None:
    assert masked("pin")["pin"] == masked("pin", text='{"pin":"1234"}')["pin"]
    assert masked("pin")["pin"] != masked("pin", key=b"other")["pin"]


def test_a_mask_is_no_digest_of_a_call() -> None:
    assert masked("a", text='{"a":{}}')["a"][5:] != digest("{}", tool="")[:16]


def test_masking_leaves_the_tree_as_it_was() -> None:
    tree = read_tree(TREE.encode())
    mask(tree, ["auth.token", "cards.cvv"], KEY)
    assert write(tree) == TREE.encode()


@pytest.mark.parametrize("paths", list(itertools.permutations(["auth.token", "pin", "cards.cvv"])))
def test_the_order_of_secrets_does_not_matter(paths: tuple[str, ...]) -> None:
    assert masked(*paths) == masked("auth.token", "pin", "cards.cvv")
