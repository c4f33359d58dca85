"""Tools as the catalog describes them (design section 6). Built by `core.catalog`, checked against by `core.check`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal, Protocol

import orjson

from proxy.core.result_trust import holds_only_trusted_text
from proxy.model import Arguments, ToolEffect


class Validator(Protocol):
    """A compiled JSON Schema: a list of `(JSON pointer, sentence)` problems, empty if valid. Never raises."""

    def problems(self, value: Any) -> list[tuple[str, str]]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """The business system that a tool belongs to. `audience`: may its operator see confidential data."""

    name: str
    labels: tuple[str, ...] = ()
    audience: Literal["internal", "external"] = "external"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """What executes a tool. `kind` http: `url` is the base URL without trailing slash; mcp: the endpoint; caller: none."""

    name: str
    kind: Literal["http", "mcp", "caller"]
    url: str | None = None
    credential: str | None = None  # name of a credential in settings
    owner: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """Roles of one argument, by its path (`customer_id`, `to.address`). A secret is masked everywhere but upstream."""

    path: str
    role: Literal["target", "record", "secret"]
    resource: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTemplate:
    """Where each top-level argument goes in an HTTP request. `body` is None for no body, else argument -> body key."""

    method: str
    path: str  # "/suppliers/{supplier_id}/capacity": names in braces are arguments, one whole segment or part of one
    query: Mapping[str, str] = field(default_factory=dict)  # query key -> argument
    body: Mapping[str, str] | None = None  # body key -> argument


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureWhen:
    """An HTTP 200 that means failure: the value at `path` (dotted) equals `equals`."""

    path: str
    equals: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRule:
    """What a result must look like and what may be believed of it."""

    trusted_paths: tuple[str, ...] = ()
    max_bytes: int = 65536
    failure_when: FailureWhen | None = None
    media_type: str = "application/json"
    pass_invalid: bool = False  # whether a body that breaks its schema is passed on to the model


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgrade:
    """How arguments of an older version become those of the newest: renamed first, then dropped, then defaults set."""

    rename: Mapping[str, str] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    default: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolVersion:
    """One schema version. The first of a tool is its newest."""

    version: str
    arguments_schema: Mapping[str, Any]
    arguments: Validator
    result_schema: Mapping[str, Any] | None = None
    result: Validator | None = None
    supported_until: date | None = None
    upgrade: Upgrade | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A described tool with its versions, newest first. `digest` is SHA-256 over its catalog entry; approvals bind to it."""

    name: str
    description: str
    system: System
    effect: ToolEffect
    labels: tuple[str, ...]  # the tool's own and its system's: what a result adds to the conversation
    risk: str | None
    upstream: Upstream
    request: RequestTemplate | None
    arguments: tuple[Argument, ...]
    result: ResultRule
    versions: tuple[ToolVersion, ...]
    timeout: float  # seconds
    idempotent: bool
    retries: int
    digest: str
    quarantined: str | None = None  # why, if the entry cannot be used; the rest of the catalog works
    trusted: bool = field(init=False)  # whether no result of any version can hold text that somebody else wrote
    marks: tuple[str, ...] = field(init=False)  # what policy can name: its system, its effect and each label
    facts: bytes = field(init=False, repr=False)  # what policy may know of it, as JSON (design section 9)

    def __post_init__(self) -> None:
        marks = (f"system:{self.system.name}", f"effect:{self.effect}", *(f"label:{label}" for label in self.labels))
        paths, passes = self.result.trusted_paths, self.result.pass_invalid
        trusted = all(holds_only_trusted_text(version.result_schema, paths) for version in self.versions)
        # Once for all calls.
        object.__setattr__(self, "trusted", trusted and not passes)
        object.__setattr__(self, "marks", marks)
        object.__setattr__(self, "facts", orjson.dumps(self._facts()))

    def _facts(self) -> dict[str, Any]:
        """What the catalog declares, never what an upstream says of itself."""
        return {
            "name": self.name,
            "system": self.system.name,
            "audience": self.system.audience,
            "effect": self.effect,
            "labels": self.labels,
            "result_trust": "trusted" if self.trusted else "untrusted",
            "risk": self.risk,
            "marks": self.marks,
            "targets": self.paths("target"),
            "records": self.paths("record"),
        }

    def paths(self, role: str) -> tuple[str, ...]:
        """Argument paths of one role."""
        return tuple(a.path for a in self.arguments if a.role == role)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceSource:
    """Where facts about records of one type come from: `GET {path}` of an upstream, answer fields by dotted path.
    404 means nobody's record; anything else but 200 is `facts_unavailable`."""

    type: str
    upstream: Upstream
    path: str  # "/customers/{id}"
    owner: str | None = None
    tenant: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """All tools of one revision (SHA-256 of the canonical documents). A tool that is not here does not exist."""

    revision: str
    systems: Mapping[str, System]
    upstreams: Mapping[str, Upstream]
    tools: Mapping[str, Tool]
    resources: Mapping[str, ResourceSource]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One catalog and one policy revision, swapped whole or not at all; a call pins it from check to record."""

    catalog: Catalog
    policy_revision: str

    @property
    def revision(self) -> str:
        """Short name of both, for records and telemetry."""
        return f"{self.catalog.revision[:12]}.{self.policy_revision[:12]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedCall:
    """A call whose tool exists and whose arguments are valid for `version`, upgraded to the newest version's form.

    `arguments` are what will be sent; `digest` names them with the tool (HMAC, hex). `asked` is the version asked for or
    found, `changes` says what an upgrade changed.
    """

    tool: Tool
    version: ToolVersion
    asked: str
    arguments: Arguments
    digest: str
    changes: tuple[str, ...] = ()
