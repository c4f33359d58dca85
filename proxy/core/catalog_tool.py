"""One entry of the catalog -> one Tool, with every problem that it has."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from proxy.core.catalog_cross import request_problems, role_problems, upgrade_problems, version_problems
from proxy.core.catalog_entry import Entry, Parts
from proxy.core.digest import sha256_of
from proxy.core.duration import seconds
from proxy.core.schema_shape import close_schema
from proxy.core.schemas import SchemaError, compile_schema
from proxy.core.tool import (
    Argument,
    FailureWhen,
    RequestTemplate,
    ResultRule,
    System,
    Tool,
    ToolVersion,
    Upgrade,
    Upstream,
    Validator,
)
from proxy.model import ToolEffect

DEFAULT_TIMEOUT = 10.0
MAX_TIMEOUT = 600.0
DEFAULT_MAX_BYTES = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a tool may name."""

    parts: Parts
    systems: Mapping[str, System]
    upstreams: Mapping[str, Upstream]
    resources: Collection[str]  # types of records that have a source
    undeclared: System  # the system of a tool that names none


def build_tool(entry: Entry, known: Known, today: date) -> tuple[Tool | None, list[str]]:
    """The tool and its problems; no tool where system or upstream are missing. A tool whose JSON Schema cannot be used, or
    whose last version has ended, comes out quarantined, which is no problem of the catalog."""
    data = entry.data
    system = known.systems.get(data["system"]) if "system" in data else known.undeclared
    upstream = known.upstreams.get(data["upstream"])
    problems = list(version_problems(entry))
    if system is None:
        problems.append(entry.sub("system").says(f"there is no system '{data['system']}'"))
    if upstream is None:
        problems.append(entry.sub("upstream").says(f"there is no upstream '{data['upstream']}'"))
    if system is None or upstream is None:
        return None, problems
    versions, broken = _versions(data["versions"])
    problems += _fit_problems(entry, upstream, versions, known.resources, usable=broken is None)
    timeout = _timeout(data)
    if not 0 < timeout <= MAX_TIMEOUT:
        problems.append(entry.sub("timeout").says(f"must be more than 0 and at most {MAX_TIMEOUT:.0f} seconds"))
    tool = Tool(
        name=data["name"],
        description=data.get("description", ""),
        system=system,
        effect=ToolEffect(data.get("effect", ToolEffect.ADMIN)),
        labels=tuple(dict.fromkeys((*data.get("labels", ()), *system.labels))),
        risk=data.get("risk"),
        upstream=upstream,
        request=_request(data.get("request")),
        arguments=_arguments(data.get("arguments", {})),
        result=_result(data.get("result", {})),
        versions=versions,
        timeout=timeout,
        idempotent=data.get("idempotent", False),
        retries=data.get("retries", 0),
        digest=_digest(entry, known.parts),
        quarantined=broken or _retired(versions, today),
    )
    return tool, problems


def _timeout(data: Mapping[str, Any]) -> float:
    try:
        return seconds(data["timeout"]) if "timeout" in data else DEFAULT_TIMEOUT
    except ValueError:  # longer than any duration may be, and so than a timeout
        return float("inf")


def _retired(versions: tuple[ToolVersion, ...], today: date) -> str | None:
    end = versions[0].supported_until  # no older version outlives the newest
    return f"retired: supported until {end}" if end is not None and end < today else None


def _fit_problems(
    entry: Entry, upstream: Upstream, versions: tuple[ToolVersion, ...], resources: Collection[str], *, usable: bool
) -> Iterator[str]:
    has_request = "request" in entry.data
    if has_request and upstream.kind != "http":
        yield entry.sub("request").says(f"an upstream of kind {upstream.kind} takes no request")
    if not has_request and upstream.kind == "http":
        yield entry.says("a tool of an http upstream needs a request")
    if not usable:
        return
    schema = versions[0].arguments_schema
    if has_request:
        yield from request_problems(entry, schema)
    yield from role_problems(entry, schema, resources)
    yield from upgrade_problems(entry, versions)


def _versions(declared: list[Mapping[str, Any]]) -> tuple[tuple[ToolVersion, ...], str | None]:
    versions, broken = [], list[str]()
    for data in declared:
        arguments_schema, arguments = _compiled(data, "arguments_schema", broken)
        result_schema, result = _compiled(data, "result_schema", broken)
        until = data.get("supported_until")
        versions.append(
            ToolVersion(
                version=data["version"],
                arguments_schema=arguments_schema or {},
                arguments=arguments or _Unusable(),
                result_schema=result_schema,
                result=result,
                supported_until=None if until is None else date.fromisoformat(until),
                upgrade=_upgrade(data.get("upgrade")),
            )
        )
    return tuple(versions), "; ".join(broken) or None


def _compiled(
    data: Mapping[str, Any], which: str, broken: list[str]
) -> tuple[Mapping[str, Any] | None, Validator | None]:
    """Arguments are closed against unknown properties. A result is not: an upstream may add to what it says. Of a schema that
    cannot be used nobody gets to see anything."""
    schema = data.get(which)
    if schema is None:
        return None, None
    arguments = which == "arguments_schema"
    if arguments and schema.get("type") != "object":
        broken.append(f"version {data['version']}: arguments_schema: /type: must be object")
        return None, _Unusable()
    try:
        validator = compile_schema(schema, noun="argument" if arguments else "field")
        if not arguments:
            return schema, validator
        closed = close_schema(schema)
        return closed, compile_schema(closed, noun="argument")
    except SchemaError as e:
        broken.append(f"version {data['version']}: {which}: {e}")
        return None, _Unusable()


class _Unusable:
    """In place of a schema that cannot be compiled: nothing is valid."""

    def problems(self, value: Any) -> list[tuple[str, str]]:  # noqa: ARG002 - the protocol's signature
        return [("", "cannot be checked: the schema is not usable")]


def _digest(entry: Entry, parts: Parts) -> str:
    # Where a call goes and what its system is are part of what a reviewer approved.
    system = parts.systems.get(entry.data.get("system", ""))
    upstream = parts.upstreams.get(entry.data["upstream"])
    named = {"system": system and system.data, "upstream": upstream and upstream.data}
    return sha256_of({"tool": entry.data, **named})


def _request(data: Mapping[str, Any] | None) -> RequestTemplate | None:
    if data is None:
        return None
    return RequestTemplate(method=data["method"], path=data["path"], query=data.get("query", {}), body=data.get("body"))


def _arguments(data: Mapping[str, Mapping[str, Any]]) -> tuple[Argument, ...]:
    return tuple(Argument(path=path, role=a["role"], resource=a.get("resource")) for path, a in data.items())


def _upgrade(data: Mapping[str, Any] | None) -> Upgrade | None:
    if data is None:
        return None
    return Upgrade(rename=data.get("rename", {}), drop=tuple(data.get("drop", ())), default=data.get("default", {}))


def _result(data: Mapping[str, Any]) -> ResultRule:
    when = data.get("failure_when")
    return ResultRule(
        trusted_paths=tuple(data.get("trusted_paths", ())),
        max_bytes=data.get("max_bytes", DEFAULT_MAX_BYTES),
        failure_when=None if when is None else FailureWhen(path=when["path"], equals=when["equals"]),
        media_type=data.get("media_type", "application/json"),
        pass_invalid=data.get("pass_invalid", False),
    )
