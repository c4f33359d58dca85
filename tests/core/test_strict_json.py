"""The one JSON reader: what two parsers could read differently is refused, and what is accepted is written as it was."""

import contextlib
import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import strict_json
from proxy.errors import Code, Refusal

REFUSED = {
    "duplicate key": b'{"a":1,"a":1}',
    "duplicate key, deep": b'[{"x":{"a":1,"b":2,"a":3}}]',
    "duplicate key by escape": b'{"a":1,"\\u0061":2}',
    "keys that differ by case": b'{"name":1,"Name":2}',
    "long s folds to s": b'{"s":1,"\xc5\xbf":2}',
    "kelvin sign folds to k": b'{"k":1,"\xe2\x84\xaa":2}',
    "NaN": b"[NaN]",
    "Infinity": b"[Infinity]",
    "minus Infinity": b'{"x":-Infinity}',
    "a number that is infinite as a double": b'{"limit":1e999}',
    "an integer that is infinite as a double": b"[" + b"9" * 400 + b"]",
    "a number of 2,000 digits": b"0." + b"1" * 2000,
    "an exponent of four digits": b"[1e-1000]",
    "zero with an exponent of four digits": b"[0E+9999]",
    "lone high surrogate": b'["\\ud800"]',
    "lone low surrogate": b'["\\udc00"]',
    "byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "bad UTF-8": b'["\xff"]',
    "overlong UTF-8": b'["\xc0\xaf"]',
    "comment": b'{"a":1} // b',
    "trailing data": b"{} {}",
    "trailing comma": b"[1,]",
    "single quotes": b"{'a':1}",
    "NUL in a string": b'["a\\u0000b"]',
    "NUL in a key": b'{"a\\u0000":1}',
    "raw control character": b'["a\nb"]',
    "leading zero": b"[01]",
    "plus sign": b"[+1]",
    "hex": b"[0x10]",
    "empty": b"",
    "blank": b"  ",
    "cut off": b'{"lat": 48.2, "lon":',
    "two objects": b'{"q":"a"}{"q":"b"}',
    "literal backslash n between tokens": rb'{"path":"/srv/a.py","range": \n[10,20]\n}',
    "bad escape": rb'{"pattern":"\d{4}"}',
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_refused(text: bytes) -> None:
    """Refused as invalid_json, with a sentence, before anything looks at it."""
    with pytest.raises(Refusal) as refused:
        strict_json.read_tree(text)
    assert refused.value.code is Code.INVALID_JSON
    assert refused.value.message.startswith("the body is not acceptable JSON: ")


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
@pytest.mark.parametrize("depth", [65, 200, 2_000, 20_000, 200_000])
def test_too_deep(opening: bytes, depth: int) -> None:
    """Nesting beyond the limit is refused at every depth, however much deeper (C005)."""
    closing = {b"[": b"]", b'{"a":': b"}"}[opening]
    with pytest.raises(Refusal, match="nested deeper than 64 levels"):
        strict_json.read_tree(opening * depth + b"1" + closing * depth)


def test_brackets_in_strings_are_not_depth() -> None:
    """Text full of brackets is text."""
    text = orjson.dumps({"a": '[{"' * 500})
    assert strict_json.write(strict_json.read_tree(text)) == text


def test_depth_at_the_limit_is_accepted() -> None:
    """64 levels are read."""
    assert strict_json.read_tree(b"[" * 64 + b"]" * 64) is not None


def test_the_error_names_the_place() -> None:
    """The offset is said, so that a model can mend the text."""
    with pytest.raises(Refusal, match="at offset 9"):
        strict_json.read_tree(b'{"a": 1, b}')


def test_written_as_it_was_read() -> None:
    """Number tokens, key order and big integers survive."""
    text = b'{"z":1.10,"a":[18446744073709551617,-0,1E5,0.1000000000000000055511151231257827],"m":{"y":1,"x":2.50}}'
    assert strict_json.write(strict_json.read_tree(text)) == text


def test_values_are_of_the_bytes_that_are_written() -> None:
    """What is judged is read from what is sent: integers exact, fractions as the nearest double."""
    raw = strict_json.write(strict_json.read_tree(b'{ "n" : 9007199254740993, "d": 1.10 }'))
    assert strict_json.read_values(raw) == {"n": 9007199254740993, "d": 1.1}


def test_number_tokens() -> None:
    """A number of a tree gives its token, anything else none."""
    tree = strict_json.read_tree(b'[1.10, "1.10", true, null]')
    assert [strict_json.number_token(item) for item in tree] == ["1.10", None, None, None]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


@given(json_values)
def test_accepted_only_as_other_parsers_read_it(value: object) -> None:
    """Whatever is accepted reads the same in the standard library and, but for integers beyond 64 bits, in orjson."""
    text = json.dumps(value).encode()
    try:
        raw = strict_json.write(strict_json.read_tree(text))
    except Refusal:
        return
    assert json.loads(raw) == json.loads(text)
    assert orjson.loads(raw) == orjson.loads(text)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(text: bytes) -> None:
    """No byte string raises anything but a Refusal."""
    with contextlib.suppress(Refusal):
        tree = strict_json.read_tree(text)
        assert orjson.loads(strict_json.write(tree)) == orjson.loads(text)


def test_so_many_values_are_not_read_at_all() -> None:
    """A text of 1 MiB could have half a million; marks inside of strings are none."""
    full = b"[" + b"1," * (strict_json.MAX_VALUES - 1) + b"1]"
    assert len(strict_json.read_tree(full)) == strict_json.MAX_VALUES
    with pytest.raises(Refusal, match="more than 100000 values"):
        strict_json.read_tree(b"[" + full + b"]")
    text = b'["' + b",[{\\\\" * strict_json.MAX_VALUES + b'"]'
    assert len(strict_json.read_tree(text)) == 1
