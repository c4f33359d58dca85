"""What comes in: bodies, tools and their arguments, files, ports."""

from tests.mutations.guard import Guard, guard

JSON = "core/test_strict_json.py"

GUARDS: tuple[Guard, ...] = (
    # One reader of JSON.
    guard(
        "a key twice in an object is refused, also if only case tells them apart",
        "proxy/core/strict_json.py",
        "if len({key.casefold() for key in tree}) != len(pairs):",
        "if len(tree) != len(pairs) and False:",
        JSON,
    ),
    guard(
        "case and its foldings count as the same key",
        "proxy/core/strict_json.py",
        "{key.casefold() for key in tree}",
        "{key.lower() for key in tree}",
        JSON,
    ),
    guard(
        "an exponent that no double has is refused",
        "proxy/core/strict_json.py",
        "    if _WILD_EXPONENT.search(token):\n",
        "    if False:\n",
        JSON,
    ),
    guard(
        "two parsers of different authors must agree that it is JSON",
        "proxy/core/strict_json.py",
        "        orjson.loads(text)\n    except",
        "        pass\n    except",
        JSON,
    ),
    guard("a NUL in a string is refused", "proxy/core/strict_json.py", "and _has_nul(tree)", "and False", JSON),
    guard("nesting is bounded", "proxy/core/strict_json.py", "if depth > MAX_DEPTH:", "if depth < 0:", JSON),
    guard(
        "numbers keep every digit on their way to the upstream",
        "proxy/core/strict_json.py",
        ", parse_float=_fraction",
        "",
        JSON,
    ),
    # Shapes of bodies.
    guard(
        "a body with the shapes of two dialects is refused",
        "proxy/wire/dialects.py",
        "if len(batches) != 1:",
        "if not batches:",
        "wire/test_dialects.py",
    ),
    guard(
        "of two items with one id only the first stands",
        "proxy/wire/common.py",
        "if item.id and item.id in seen:",
        "if False:",
        "wire/test_common.py",
        "wire/test_dialects.py",
    ),
    guard(
        "calls in one body are counted",
        "proxy/wire/dialects.py",
        "if len(batch.items) > common.MAX_CALLS:",
        "if False:",
        "wire/test_dialects.py",
    ),
    guard(
        "a `type` that is no text breaks no dialect",
        "proxy/wire/common.py",
        'return kind if isinstance(kind, str) else ""',
        "return kind",
        "faults/test_bodies.py::test_a_type_that_is_no_text_is_no_type",
    ),
    # Which tool, which arguments.
    guard(
        "an unknown tool does not exist",
        "proxy/core/check.py",
        "tool = snapshot.catalog.tools.get(call.tool)",
        "tool = snapshot.catalog.tools.get(call.tool.strip().lower())",
        "core/test_check.py",
    ),
    guard(
        "a quarantined tool is refused",
        "proxy/core/check.py",
        "if tool.quarantined is not None:",
        "if False:",
        "core/test_check.py",
    ),
    guard(
        "a version past its end is gone",
        "proxy/core/check.py",
        "v.supported_until >= today]",
        "v.supported_until]",
        "core/test_check.py",
    ),
    guard(
        "upgraded arguments are checked again",
        "proxy/core/check.py",
        "    _refuse_faults(tool, old.version, problems, upgraded=newest.version)\n",
        "",
        "core/test_check.py",
    ),
    guard(
        "a schema refuses what it does not declare",
        "proxy/core/schema_shape.py",
        'closed["unevaluatedProperties" if composed else "additionalProperties"] = False',
        "pass",
        "core/test_schema_shape.py",
    ),
    guard(
        "a schema that composes is closed where its parts are seen",
        "proxy/core/schema_shape.py",
        '"unevaluatedProperties" if composed else "additionalProperties"',
        '"additionalProperties"',
        "core/test_schema_shape.py",
    ),
    guard(
        "a panic of the validator is not a valid value",
        "proxy/core/schemas.py",
        'return [("", f"cannot be checked ({type(e).__name__})")]',
        "return []",
        "core/test_schemas.py",
    ),
    # Files.
    guard(
        "a key twice in YAML is refused",
        "proxy/adapters/yaml_file.py",
        "            if key in tree:\n",
        "            if False:\n",
        "adapters/test_yaml_file.py",
    ),
    guard(
        "aliases count as what they repeat",
        "proxy/adapters/yaml_file.py",
        "        self._count(event, nodes)\n",
        "",
        "adapters/test_yaml_file.py",
    ),
    guard(
        "what does not load leaves in force what does",
        "proxy/adapters/snapshots.py",
        "                return self._current\n            self._tell",
        "                raise\n            self._tell",
        "adapters/test_snapshots.py",
    ),
    # Ports.
    guard(
        "a web page cannot call",
        "proxy/server/agent.py",
        '        if "origin" in request.headers:\n',
        "        if False:\n",
        "e2e/test_bad_bodies.py",
    ),
    guard(
        "a rebound host name does not reach the port",
        "proxy/server/agent.py",
        "not in self.hosts:\n",
        "in ():\n",
        "e2e/test_bad_bodies.py",
    ),
    guard(
        "compressed bodies are refused",
        "proxy/server/agent.py",
        '        if request.headers.get("content-encoding", "identity") != "identity":\n',
        "        if False:\n",
        "e2e/test_bad_bodies.py",
    ),
    guard(
        "requests that are not whole take up so much room and no more",
        "proxy/server/connections.py",
        "        if not fair(held, more, self.limit - self.taken):\n",
        "        if False:\n",
        "server/test_connections.py",
    ),
    guard(
        "a request behind another waits until that is answered",
        "proxy/server/connections.py",
        "        while self._unparsed and not self._reading_paused and not self._whole:\n",
        "        while self._unparsed and not self._reading_paused:\n",
        "server/test_connections.py",
    ),
    guard(
        "what waits behind a request that is being answered is bounded",
        "proxy/server/connections.py",
        "            if len(self._unparsed) > AHEAD:",
        "            if False:",
        "server/test_connections.py",
    ),
    guard(
        "a body comes in so many chunks and no more",
        "proxy/server/body.py",
        "        if chunks > CHUNKS:\n",
        "        if False:\n",
        "server/test_body.py",
    ),
)
