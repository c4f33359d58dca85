"""Catalog files -> one Catalog, whole or not at all (design section 6). What is not declared takes the worst value."""

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date
from types import MappingProxyType
from typing import Any

from proxy.core.catalog_cross import PLACEHOLDER, path_problem
from proxy.core.catalog_entry import CatalogError, Entry, Parts
from proxy.core.catalog_schema import CATALOG_SCHEMA, NOT_YET_KEYS, NOT_YET_ROLES
from proxy.core.catalog_tool import Known, build_tool
from proxy.core.digest import sha256_of
from proxy.core.schema_shape import at_path, declared
from proxy.core.schemas import compile_schema
from proxy.core.tool import Catalog, ResourceSource, System, Tool, Upstream

__all__ = ["CatalogError", "build_catalog", "cross_check"]

UNDECLARED_SYSTEM = "external"  # the system of a tool that names none

_URL = re.compile(
    r"https?://(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?(?P<path>(?:/[A-Za-z0-9._~-]+)*)/?"
)
_UNKNOWN_KEY = re.compile(r"unknown key '(\w+)'")


def build_catalog(documents: Sequence[tuple[str, object]], *, today: date) -> Catalog:
    """One catalog from `(file name, document)` pairs. Raises CatalogError with every problem, each with file and path: first
    all that is wrong with the form of the files, and if nothing is, all that does not fit together.

    A tool whose own JSON Schema cannot be used is quarantined and the others work; so is one that is retired `today`.
    """
    problems = _form_problems(documents)
    if problems:
        raise CatalogError(problems)
    parts, problems = _merge(documents)
    systems = {name: _system(name, entry.data) for name, entry in parts.systems.items()}
    systems.setdefault(UNDECLARED_SYSTEM, System(name=UNDECLARED_SYSTEM))
    upstreams = {name: _upstream(name, entry, problems) for name, entry in parts.upstreams.items()}
    resources = _resources(parts, upstreams, problems)
    known = Known(
        parts=parts,
        systems=systems,
        upstreams=upstreams,
        resources=parts.resources.keys(),
        undeclared=systems[UNDECLARED_SYSTEM],
    )
    tools: dict[str, Tool] = {}
    for name, entry in parts.tools.items():
        tool, found = build_tool(entry, known, today)
        problems += found
        if tool is not None:
            tools[name] = tool
    if problems:
        raise CatalogError(problems)
    return Catalog(
        revision=sha256_of(parts.content()), systems=systems, upstreams=upstreams, tools=tools, resources=resources
    )


def cross_check(
    catalog: Catalog,
    *,
    systems: Collection[str] = (),
    labels: Collection[str] = (),
    tools: Collection[str] = (),
    arguments: Collection[tuple[str, str]] = (),
    bounds: Collection[tuple[str, str, str]] = (),
    credentials: Collection[str] | None = None,
    places: Mapping[tuple[str, str], str] = MappingProxyType({}),
) -> list[str]:
    """What the policy names and the catalog does not have: a misspelt name would silently switch a rule off. `arguments` are
    (tool, top-level argument), `bounds` those of all tools of a (system, effect); `places` says where a name of a kind stands
    in the policy. Where the names of `credentials` in settings are given: what upstreams name and they do not have."""
    has_labels = {label for t in catalog.tools.values() for label in t.labels}
    has_labels |= {label for s in catalog.systems.values() for label in s.labels}
    named = {u.credential: u.name for u in catalog.upstreams.values() if u.credential is not None}
    return [
        *_missing("system", systems, catalog.systems, places),
        *_missing("label", labels, has_labels, places),
        *_missing("tool", tools, catalog.tools, places),
        *(
            f"the policy names argument '{name}' of tool '{tool}', {_why_not(catalog.tools[tool], name)}"
            for tool, name in sorted(arguments)
            if tool in catalog.tools and not _has_argument(catalog.tools[tool], name)
        ),
        *_bound_problems(catalog, bounds),
        *(
            f"upstream '{upstream}' names credential '{name}', which the settings do not have"
            for name, upstream in sorted(named.items())
            if credentials is not None and name not in credentials
        ),
    ]


def _has_argument(tool: Tool, name: str) -> bool:
    """At the top level, where policies look: a bound on what lies deeper would never be compared with anything."""
    schema = tool.versions[0].arguments_schema
    return tool.quarantined is not None or name in declared(schema, schema).properties


def _why_not(tool: Tool, name: str) -> str:
    if at_path(tool.versions[0].arguments_schema, name):
        return "which lies inside another argument; a policy bounds whole arguments of the top level only"
    return "which the newest version does not have"


def _bound_problems(catalog: Catalog, bounds: Collection[tuple[str, str, str]]) -> Iterator[str]:
    for system, effect, name in sorted(bounds):
        tools = [t for t in catalog.tools.values() if (t.system.name, t.effect) == (system, effect)]
        if tools and not any(_has_argument(tool, name) for tool in tools):
            yield (
                f"the policy bounds argument '{name}' of tools of system '{system}' with effect {effect}, and none of them "
                "has it at the top level"
            )


def _missing(
    what: str, named: Iterable[str], there: Collection[str], places: Mapping[tuple[str, str], str]
) -> Iterator[str]:
    for name in sorted(set(named) - set(there)):
        place = f"{places[what, name]}: " if (what, name) in places else ""
        close = difflib.get_close_matches(name, there, n=1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        yield f"{place}the policy names {what} '{name}', which the catalog does not have{hint}"


def _form_problems(documents: Sequence[tuple[str, object]]) -> list[str]:
    form = compile_schema(CATALOG_SCHEMA, noun="key")
    found = [(file, where, what) for file, document in documents for where, what in form.problems(document)]
    return [f"{file}: {where or '/'}: {_explained(where, what)}" for file, where, what in found]


def _explained(where: str, what: str) -> str:
    """Whoever writes down what the design has and this version has not must not look for a slip of the pen."""
    unknown = _UNKNOWN_KEY.match(what)
    if unknown is not None and unknown[1] in NOT_YET_KEYS:
        return f"'{unknown[1]}' is not supported yet, so it would do nothing; take it out"
    if where.endswith("/role"):
        return f"{what}; {' and '.join(sorted(NOT_YET_ROLES))} are not supported yet"
    return what


def _merge(documents: Sequence[tuple[str, object]]) -> tuple[Parts, list[str]]:
    parts, problems = Parts(), list[str]()
    # Names that differ in case only would be one name to half of their readers.
    seen: dict[tuple[str, str], Entry] = {}
    for kind, name, entry in _entries(documents):
        before = seen.setdefault((kind, name.casefold()), entry)
        if before is not entry:
            where = f"before in {before.file}: {before.path}"
            problems.append(entry.says(f"'{name}' is declared twice, {where} (upper and lower case count as the same)"))
        if kind == "systems" and name.casefold() == UNDECLARED_SYSTEM:
            problems.append(entry.says(f"the name '{UNDECLARED_SYSTEM}' is taken by tools that name no system"))
        getattr(parts, kind)[name] = entry
    return parts, problems


def _entries(documents: Sequence[tuple[str, object]]) -> Iterator[tuple[str, str, Entry]]:
    for file, document in documents:
        whole = Entry(file, "", document)
        for kind in ("systems", "upstreams", "resources"):
            for name in whole.sub(kind).data or ():
                yield kind, name, whole.sub(kind, name)
        for n, tool in enumerate(whole.sub("tools").data or ()):
            yield "tools", tool["name"], whole.sub("tools", n)


def _system(name: str, data: Mapping[str, Any]) -> System:
    return System(name=name, labels=tuple(data.get("labels", ())), audience=data.get("audience", "external"))


def _upstream(name: str, entry: Entry, problems: list[str]) -> Upstream:
    kinds = [kind for kind in ("http", "mcp", "caller") if kind in entry.data]
    kind = kinds[0] if kinds else "caller"
    if len(kinds) != 1:
        problems.append(entry.says("must have exactly one of http, mcp and caller"))
    elif kind == "mcp":
        problems.append(entry.sub("mcp").says("mcp upstreams are not supported yet"))
    url = entry.data["http"]["base_url"] if kind == "http" else None
    if url is not None and (why := _url_problem(url)):
        problems.append(entry.sub("http", "base_url").says(why))
    return Upstream(
        name=name,
        kind=kind,  # type: ignore[arg-type]  # one of the three literals above, which mypy sees as str
        url=url.rstrip("/") if url else None,
        credential=entry.data.get("credential"),
        owner=entry.data.get("owner"),
    )


def _url_problem(url: str) -> str | None:
    match = _URL.fullmatch(url)
    if match is None or int(match["port"] or 1) not in range(1, 65536):
        return "must be http:// or https:// with host, port and plain path segments, no credentials, query or fragment"
    if {".", ".."} & set(match["path"].split("/")):
        return "must not have '.' or '..' in its path"
    return None


def _resources(parts: Parts, upstreams: Mapping[str, Upstream], problems: list[str]) -> dict[str, ResourceSource]:
    sources = {}
    for name, entry in parts.resources.items():
        upstream, path = upstreams.get(entry.data["upstream"]), entry.data["path"]
        if why := path_problem(path):
            problems.append(entry.sub("path").says(why))
        elif PLACEHOLDER.findall(path) != ["id"]:
            problems.append(entry.sub("path").says("must have the one placeholder {id}"))
        if upstream is None or upstream.kind != "http":
            problems.append(entry.sub("upstream").says(f"there is no http upstream '{entry.data['upstream']}'"))
        else:
            owner, tenant = entry.data.get("owner"), entry.data.get("tenant")
            sources[name] = ResourceSource(type=name, upstream=upstream, path=path, owner=owner, tenant=tenant)
    return sources
