"""Rules of taste as tests (design section 20): who may import whom, what is pure, how long things may be, what is documented."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.core.settings_schema import SCHEMA
from proxy.errors import MEANINGS, Code
from proxy.telemetry import names
from tests.reference import reference

REPO = Path(__file__).parents[1]
SOURCES = sorted((REPO / "proxy").rglob("*.py"))
TESTS = sorted((REPO / "tests").rglob("*.py"))

# Which part may import which, by the first names after `proxy.`; every part may import itself.
LAYERS = {
    "errors": set(),
    "earlier": set(),
    "model": {"errors", "earlier"},
    "core": {"errors", "model", "earlier", "ports"},
    "wire": {"errors", "model", "core"},
    "ports": {"errors", "model", "core"},
    "run": {"model", "core"},
    "pipeline": {"errors", "model", "earlier", "core", "ports", "identify", "run"},
    "identify": {"errors", "model", "core", "ports"},
    "register": {"errors", "model", "core", "ports", "identify"},
    "resources": set(),
    "settings_values": {"core"},
    "settings": {"core", "adapters", "settings_values"},
    "adapters": {"errors", "model", "earlier", "core", "ports", "settings", "resources"},
    "telemetry": {"errors", "model", "core", "ports", "adapters"},
    "server": {"errors", "model", "core", "ports", "pipeline", "register", "wire", "settings"},
    "reports": {"errors", "core", "adapters"},
    "stores": {"errors", "ports", "adapters", "settings"},
    "desk": {"adapters", "server", "settings", "stores", "telemetry"},
    "sidecar": {"core", "stores", "pipeline", "settings", "adapters", "server", "telemetry"},
    "app": {
        *("sidecar", "reports", "stores"),
        *("errors", "model", "core", "ports", "pipeline", "identify", "register", "settings", "adapters"),
        *("server", "telemetry", "resources"),
    },
    "cli": {"errors", "model", "core", "adapters", "settings", "telemetry", "app", "desk", "resources"},
}
# `core` needs `ports` for nothing but a protocol's name; `ports` itself needs core's values.
CORE_MODULES_THAT_WIRE_MAY_SEE = {"strict_json"}
IMPURE = {
    "asyncio",
    "os",
    "time",
    "socket",
    "subprocess",
    "random",
    "secrets",
    "threading",
    "pathlib",
    "aiohttp",
    "logging",
    "sqlite3",
}


def part(path: Path) -> str:
    return path.relative_to(REPO / "proxy").parts[0].removesuffix(".py")


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def depth(node: ast.AST, level: int = 0) -> int:
    deepest = level
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        nests = isinstance(
            child, ast.If | ast.For | ast.AsyncFor | ast.While | ast.With | ast.AsyncWith | ast.Try | ast.Match
        )
        is_elif = isinstance(node, ast.If) and isinstance(child, ast.If) and child in node.orelse
        deepest = max(deepest, depth(child, level + (nests and not is_elif)))
    return deepest


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(REPO)))
def test_imports_point_one_way(path: Path) -> None:
    """A part imports only what lies below it."""
    own = part(path)
    for name in imported(parsed(path)):
        if name.startswith("proxy.") and (other := name.split(".")[1]) not in {own, "__version__"}:
            assert other in LAYERS.get(own, set()), f"{own} imports {name}"
            if own == "wire" and other == "core":
                assert name.split(".")[2] in CORE_MODULES_THAT_WIRE_MAY_SEE, name


@pytest.mark.parametrize("path", sorted((REPO / "proxy" / "core").glob("*.py")), ids=lambda p: p.name)
def test_core_is_pure(path: Path) -> None:
    """No await, clock, environment, network or file in `core`."""
    tree = parsed(path)
    assert not {name.split(".")[0] for name in imported(tree)} & IMPURE
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef | ast.Await)]
    assert not re.search(r"\b(now|today|utcnow)\(\)|(?<!def )\bopen\(", path.read_text())


def test_a_permit_is_made_in_one_module() -> None:
    """Only `core.permit` calls the class."""
    makers = [p.name for p in SOURCES if re.search(r"(?<![A-Za-z_])Permit\(", p.read_text())]
    assert makers == ["permit.py"]


def test_the_environment_is_read_in_one_module() -> None:
    """Only `settings` looks into the environment; whoever starts a process says what it gets."""
    readers = {p.name for p in SOURCES if re.search(r"os\.environ|getenv", p.read_text())}
    assert readers == {"settings.py"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(REPO)))
def test_files_and_functions_stay_short(path: Path) -> None:
    """300 lines a file, 40 a function, 3 levels deep."""
    text = path.read_text()
    assert text.count("\n") <= 300
    for function in functions(ast.parse(text)):
        assert (function.end_lineno or 0) - function.lineno + 1 <= 40, function.name
        assert depth(function) <= 3, function.name


# Source files whose test stands elsewhere, and where.
TESTED_ELSEWHERE = {
    "proxy/__init__.py": "no code",
    "proxy/ports.py": "protocols: tests/contracts",
    "proxy/run.py": "tests/test_pipeline_faults.py: calls that are left and ended at each stage",
    "proxy/app.py": "tests/e2e: every test of a running sidecar",
    "proxy/desk.py": "tests/e2e/test_many_pods.py",
    "proxy/stores.py": "tests/e2e: every test of a running sidecar; test_many_pods.py for the shared one",
    "proxy/cli/__main__.py": "tests/e2e: the rig starts it",
    "proxy/cli/demo.py": "tests/e2e/test_demo.py",
}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(REPO)))
def test_each_source_file_has_its_test(path: Path) -> None:
    """`tests/` mirrors `proxy/`."""
    name = str(path.relative_to(REPO))
    if path.name == "__init__.py" or name in TESTED_ELSEWHERE:
        return
    mirrored = REPO / "tests" / path.relative_to(REPO / "proxy").parent / f"test_{path.name}"
    assert mirrored.exists(), f"there is no {mirrored.relative_to(REPO)}"


@pytest.mark.parametrize("path", TESTS, ids=lambda p: str(p.relative_to(REPO)))
def test_no_patching_and_no_sleeping_in_tests(path: Path) -> None:
    """Where a port exists nothing is patched; time is a port."""
    if path == Path(__file__):
        return
    found = re.search(r"monkeypatch|mock\.patch|MagicMock|unittest\.mock|time\.sleep\(", path.read_text())
    assert found is None, found


def test_every_refusal_code_has_a_meaning_and_is_documented() -> None:
    """API, audit field and metric label at once: README says what each means."""
    readme = (REPO / "README.md").read_text()
    assert set(MEANINGS) == set(Code)
    assert [code for code in Code if f"`{code}`" not in readme] == []


def test_every_setting_is_documented() -> None:
    """README names each, nested ones by their last name."""
    readme = (REPO / "README.md").read_text()

    def keys(schema: object) -> Iterator[str]:
        if isinstance(schema, dict):
            if schema.get("additionalProperties") is False:
                yield from schema["properties"]
            for value in schema.values():
                yield from keys(value)
        elif isinstance(schema, list):
            for value in schema:
                yield from keys(value)

    assert sorted({key for key in keys(SCHEMA) if f"`{key}`" not in readme}) == []


def test_every_span_attribute_and_metric_is_documented() -> None:
    """README has a line for each name of ours."""
    readme = (REPO / "README.md").read_text()
    assert [name for name in (*names.ALL_ATTRIBUTES, *names.ALL_METRICS) if f"`{name}`" not in readme] == []


def test_every_reason_code_is_documented() -> None:
    """rego/README.md has each code that a shipped policy can say."""
    readme = (REPO / "rego" / "README.md").read_text()
    rego = "\n".join(p.read_text() for p in (REPO / "rego").rglob("*.rego") if not p.name.endswith("_test.rego"))
    codes = set(re.findall(r'"code":\s*"([a-z_]+)"', rego))
    assert len(codes) > 5
    assert sorted(code for code in codes if f"`{code}`" not in readme) == []


def test_the_top_level_is_what_the_user_gave() -> None:
    """Exactly these; dotfiles and the licence besides."""
    there = {p.name for p in REPO.iterdir() if not p.name.startswith(".")}
    assert there <= {"pyproject.toml", "README.md", "LICENSE", "proxy", "rego", "tests", "deploy", "helm"}


def test_the_reference_is_written_from_the_code() -> None:
    """README's tables have not drifted (`python -m tests.reference` writes them anew)."""
    assert reference() in (REPO / "README.md").read_text()
