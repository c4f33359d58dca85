"""JSON Schema 2020-12: compiled once, faults as bounded sentences that name types and limits, never the values that came.

`true` is no integer; `5.0` is one (a number with a zero fraction, JSON Schema 2020-12 validation 6.1.1), and it is the token
`5.0` that is sent on. `format` is asserted. Patterns are ECMA 262 and run with a bound on backtracking, past which they do not
match. References stay inside the document: nothing is fetched.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema_rs

from proxy.core.schema_shape import pointer, shape_problems
from proxy.core.schema_words import sentences

MAX_PROBLEMS = 20
MAX_NODES_FOR_ALL_PROBLEMS = 2000
_BACKTRACKS = 50_000


class SchemaError(ValueError):
    """A schema that cannot be used. `problems` are `(JSON pointer into the schema, sentence)` pairs."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{where or '/'}: {what}" for where, what in problems))
        self.problems = problems


class CompiledSchema:
    """A `Validator` (core.tool) over one schema. `noun` is what a property is called: argument, field, key."""

    __slots__ = ("_noun", "_schema", "_validator")

    def __init__(self, validator: jsonschema_rs.Validator, schema: Mapping[str, Any], noun: str) -> None:
        self._validator = validator
        self._schema = schema
        self._noun = noun

    def problems(self, value: Any) -> list[tuple[str, str]]:
        """At most `MAX_PROBLEMS` and a last one that says there are more; the first alone where `value` is large.

        A value that the library cannot read (a lone surrogate, a key that is no string) is one problem, as is a panic in it,
        which is no `Exception`: whatever happens, what was not found valid is not valid.
        """
        try:
            return [] if self._validator.is_valid(value) else self._explain(value)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as e:  # noqa: BLE001 - see above: a Rust panic derives from BaseException
            return [("", f"cannot be checked ({type(e).__name__})")]

    def _explain(self, value: Any) -> list[tuple[str, str]]:
        # The library collects every error before it gives the first: 4 s for 300,000 wrong items. The first alone is cheap.
        large = _nodes(value, MAX_NODES_FOR_ALL_PROBLEMS) > MAX_NODES_FOR_ALL_PROBLEMS
        found: list[tuple[str, str]] = []
        for error in self._first(value) if large else self._validator.iter_errors(value):
            found += [s for s in sentences(error, value, self._schema, self._noun) if s not in found]
            if len(found) > MAX_PROBLEMS:
                return [*found[:MAX_PROBLEMS], ("", "more is wrong than is listed here")]
        return [*(found or [("", "is not valid")]), *([("", "more may be wrong, the value is large")] if large else [])]

    def _first(self, value: Any) -> Iterator[jsonschema_rs.ValidationError]:
        try:
            self._validator.validate(value)
        except jsonschema_rs.ValidationError as e:
            yield e


def compile_schema(schema: Any, *, noun: str = "property") -> CompiledSchema:
    """Compile a JSON Schema 2020-12. Raises SchemaError with the place of each fault: against the meta-schema, another
    dialect, an embedded `$id`, a reference that leads nowhere or out of the document, a pattern that is none."""
    if not isinstance(schema, dict):
        raise SchemaError([("", "a schema must be an object")])
    try:
        return CompiledSchema(_validator(schema), schema, noun)
    except jsonschema_rs.ValidationError as e:
        raise SchemaError(_compile_faults(schema, e)) from None
    except SchemaError:
        raise
    except (ValueError, TypeError, RecursionError) as e:
        raise SchemaError([("", f"cannot be compiled: {str(e)[:200]}")]) from None


def _validator(schema: dict[str, Any]) -> jsonschema_rs.Validator:
    if faults := shape_problems(schema):
        raise SchemaError(faults)
    return jsonschema_rs.Draft202012Validator(
        schema,
        validate_formats=True,
        offline=True,
        pattern_options=jsonschema_rs.FancyRegexOptions(backtrack_limit=_BACKTRACKS),
    )


def _compile_faults(schema: Mapping[str, Any], error: jsonschema_rs.ValidationError) -> list[tuple[str, str]]:
    faults = list(jsonschema_rs.Draft202012Validator(_META, offline=True).iter_errors(schema))
    listed = [(pointer(f.instance_path), f.message[:200]) for f in faults[:MAX_PROBLEMS]]
    return listed or [(pointer(error.instance_path), error.message[:200])]


_META = {"$ref": "https://json-schema.org/draft/2020-12/schema"}


def _nodes(value: Any, enough: int) -> int:
    pending, count = [value], 0
    while pending and count <= enough:
        item = pending.pop()
        count += 1
        if isinstance(item, dict):
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
    return count
