"""What must fit together inside one tool entry: request and arguments, roles and arguments, versions and their upgrades."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from proxy.core.catalog_entry import Entry
from proxy.core.schema_shape import at_path, declared, types_of
from proxy.core.tool import ToolVersion

PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_PATH = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@-]*)+")
_NUMBERS = re.compile(r"[0-9]+(?:[.-][0-9]+)*")
_BODILESS = frozenset({"GET", "HEAD", "DELETE"})  # where a body has no meaning (RFC 9110 sections 9.3.1, 9.3.2, 9.3.5)


def path_problem(path: str) -> str | None:
    """Why a path template of a request cannot be used; None if it can. Nothing in it may end or climb out of the path."""
    if not _PATH.fullmatch(PLACEHOLDER.sub("x", path)):
        return "must begin with '/' and have plain characters and {argument} placeholders only"
    segments = path.split("/")[1:]
    if {".", ".."} & set(segments) or "" in segments[:-1]:
        return "must not have empty, '.' or '..' segments"
    return None


def request_problems(entry: Entry, schema: Mapping[str, Any]) -> Iterator[str]:
    """An HTTP request against the arguments it takes: each has a place, none can come that has no place."""
    request = entry.sub("request")
    arguments = declared(schema, schema)
    query, body = request.data.get("query", {}), request.data.get("body", {})
    if why := path_problem(request.data["path"]):
        yield request.sub("path").says(why)
    if "body" in request.data and request.data["method"] in _BODILESS:
        yield request.sub("body").says(f"a {request.data['method']} request has no body")
    in_path = PLACEHOLDER.findall(request.data["path"])
    for name in in_path:
        yield from _path_argument_problems(request.sub("path"), schema, name)
    for kind, key, name in (*(("query", k, n) for k, n in query.items()), *(("body", k, n) for k, n in body.items())):
        subs = arguments.properties.get(name, ())
        if not subs:
            yield request.sub(kind, key).says(f"there is no argument '{name}'")
        elif kind == "query" and any("object" in types_of(schema, sub) for sub in subs):
            yield request.sub(kind, key).says(f"argument '{name}' is an object, which has no place in a query")
    for name in sorted(arguments.properties.keys() - {*in_path, *query.values(), *body.values()}):
        yield request.says(f"argument '{name}' has no place in the request")
    if arguments.open:
        yield request.says("the arguments_schema lets other properties through, which have no place in the request")


def _path_argument_problems(place: Entry, schema: Mapping[str, Any], name: str) -> Iterator[str]:
    subs = declared(schema, schema).properties.get(name, ())
    if not subs:
        yield place.says(f"there is no argument '{name}'")
    elif name not in schema.get("required", ()):
        yield place.says(f"argument '{name}' stands in the path and must be required")
    elif not any(types_of(schema, sub) in ({"string"}, {"integer"}) for sub in subs):
        yield place.says(f"argument '{name}' stands in the path and must be of type string or integer")


def role_problems(entry: Entry, schema: Mapping[str, Any], resources: Collection[str]) -> Iterator[str]:
    """Roles name arguments that exist; a record names a type that somebody can say something about."""
    for path, role in entry.data.get("arguments", {}).items():
        place = entry.sub("arguments", path)
        if not at_path(schema, path):
            yield place.says("there is no such argument in the newest version")
        if (role["role"] == "record") != ("resource" in role):
            yield place.says("role record and a resource belong together")
        if "resource" in role and role["resource"] not in resources:
            yield place.says(f"there is no resource '{role['resource']}'")


def version_problems(entry: Entry) -> Iterator[str]:
    """Versions are unique and newest first; an older one does not outlive a newer; the newest is what others upgrade to."""
    versions: list[Mapping[str, Any]] = entry.data["versions"]
    names = [v["version"] for v in versions]
    for n, version in enumerate(versions):
        place = entry.sub("versions", n)
        if version["version"] in names[:n]:
            yield place.says(f"version '{version['version']}' is declared twice")
        if n == 0 and "upgrade" in version:
            yield place.sub("upgrade").says("the newest version has nothing to be upgraded to")
        if n and _older(versions[n - 1]["version"], version["version"]):
            yield place.says("versions must stand newest first")
        if n and _end(versions[n - 1]) < _end(version):
            yield place.says("an older version is supported for longer than a newer one")


def _older(first: str, second: str) -> bool:
    if not (_NUMBERS.fullmatch(first) and _NUMBERS.fullmatch(second)):
        return False
    return [int(n) for n in re.split("[.-]", first)] < [int(n) for n in re.split("[.-]", second)]


def _end(version: Mapping[str, Any]) -> str:
    return str(version.get("supported_until", "9999-12-31"))


def upgrade_problems(entry: Entry, versions: Sequence[ToolVersion]) -> Iterator[str]:
    """Each older version's mapping against its own schema and the newest one's."""
    newest = versions[0]
    for n, old in enumerate(versions[1:], start=1):
        yield from _mapping_problems(entry.sub("versions", n), old, newest)


def _mapping_problems(place: Entry, old: ToolVersion, newest: ToolVersion) -> Iterator[str]:
    upgrade = place.sub("upgrade")
    mapping = upgrade.data or {}
    rename, drop, default = (mapping.get(key, {}) for key in ("rename", "drop", "default"))
    before = set(declared(old.arguments_schema, old.arguments_schema).properties)
    after = declared(newest.arguments_schema, newest.arguments_schema)
    kept = before - set(rename) - set(drop)
    for name in sorted({*rename, *drop} - before):
        yield upgrade.says(f"version {old.version} has no argument '{name}'")
    for name in sorted(set(rename) & set(drop)):
        yield upgrade.says(f"argument '{name}' is renamed and dropped")
    targets = list(rename.values())
    for name in sorted({t for t in targets if targets.count(t) > 1 or t in kept or t in drop}):
        yield upgrade.says(f"two arguments would become '{name}'")
    if not after.open:
        for name in sorted({*targets, *default, *kept} - after.properties.keys()):
            yield upgrade.says(f"version {newest.version} has no argument '{name}'; rename or drop it")
    for name in sorted({*newest.arguments_schema.get("required", ())} - {*targets, *default, *kept}):
        yield upgrade.says(f"version {newest.version} requires '{name}', which comes from nowhere")
    for where, what in newest.arguments.problems(default) if default else ():
        if where:
            yield upgrade.sub("default").says(f"{where} {what}")
