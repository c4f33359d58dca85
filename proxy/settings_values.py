"""Everything that can be configured, as frozen values. `settings` reads them from the file and the environment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxy.core.hold_rules import HoldLimits

_HOLDS = HoldLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen:
    """Where a listener binds: host and port, or a unix socket's path."""

    host: str = ""
    port: int = 0
    path: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @property
    def address(self) -> str:
        """For people and logs, in the form that the settings take."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"unix:{self.path}" if self.path is not None else f"{host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.path is not None or self.host in {"127.0.0.1", "::1", "localhost"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Opa:
    """How OPA is reached. `supervised`: Sidegate runs it on a private unix socket; `external`: it runs elsewhere and reads
    `bundle`, which Sidegate writes. `deadline` in seconds."""

    mode: str = "supervised"
    binary: str = "opa"
    address: str = ""
    bundle: Path | None = None
    deadline: float = 0.25

    @property
    def endpoint(self) -> str:
        """`address` as the client takes it: `unix:///path` or `host:port`."""
        return self.address.removeprefix("http://").rstrip("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """Policy that was built elsewhere. Each layer is a file's absolute path or a URL (https, oci); `every` in seconds between looks
    at URLs."""

    platform: str
    teams: Mapping[str, str] = field(default_factory=dict)
    key: Path | None = None
    credential: str | None = None
    every: float = 60.0

    @property
    def layers(self) -> Mapping[str, str]:
        """The platform's first."""
        return {"platform": self.platform, **self.teams}

    @property
    def urls(self) -> Mapping[str, str]:
        """The layers that are fetched."""
        return {name: place for name, place in self.layers.items() if is_url(place)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """A JWT issuer: where its keys are and which claims mean what."""

    issuer: str
    audience: str
    jwks_url: str | None = None
    jwks_file: Path | None = None
    algorithms: tuple[str, ...] = ("RS256", "ES256")
    claims: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Whose tokens are accepted: a file of hashed opaque tokens, JWT issuers, or both."""

    file: Path | None = None
    issuers: tuple[Issuer, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one process. Over `in_flight` calls are refused, not queued."""

    body_bytes: int = 1 << 20
    in_flight: int = 256
    holds_per_conversation: int = _HOLDS.conversation
    holds_per_principal: int = _HOLDS.principal
    holds_per_agent: int = _HOLDS.agent
    holds: int = _HOLDS.total
    new_holds_per_hour: int = _HOLDS.new_per_hour
    rejections: int = _HOLDS.rejections
    conversations_in_memory: int = 10_000
    state_bytes: int | None = None  # None: as much as the disk has

    def of_holds(self) -> HoldLimits:
        """Those that bound what waits for a person."""
        return HoldLimits(
            conversation=self.holds_per_conversation,
            principal=self.holds_per_principal,
            agent=self.holds_per_agent,
            total=self.holds,
            new_per_hour=self.new_holds_per_hour,
            rejections=self.rejections,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Valkey:
    """The shared store: a Valkey or Redis server. `deadline` in seconds; `mac_key_file` holds what seals rows, the same in all
    pods; `appendfsync` is `checked` on each connection, or `stated` by who may not let us look."""

    url: str
    mac_key_file: Path
    ca_file: Path | None = None
    username: str | None = None
    password_file: Path | None = None
    prefix: str = "sidegate"
    deadline: float = 0.25
    appendfsync: str = "checked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be configured. Paths are absolute or relative to the settings file; durations are seconds."""

    state: Path
    catalog: Path
    policy: Path = Path()  # that is, none
    policy_folders: tuple[Path, ...] = ()
    bundle: Bundle | None = None  # instead of `policy` and `policy_folders`
    agent_port: Listen = Listen(host="127.0.0.1", port=8900)
    review_port: Listen = Listen(host="127.0.0.1", port=8902)
    probe_port: Listen = Listen(host="0.0.0.0", port=8901)  # noqa: S104 - the kubelet asks on the pod's address
    opa: Opa = Opa()
    tokens: Tokens = Tokens()
    reviewers: Tokens = Tokens()
    registration: str = "claimed"
    attestation: Path | None = None
    conversation_ttl: float = 12 * 3600.0
    credentials: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    patience: float = 4.0
    review_ttl: float = 900.0
    drain: float = 10.0
    limits: Limits = Limits()
    agent: Mapping[str, str | None] = field(default_factory=dict)
    audit_copy: bool = False
    store: Valkey | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    tools: Path = Path()  # the cache of deploy/tools.sh


def is_url(place: str) -> bool:
    """Whether a layer is fetched."""
    return place.startswith(("https://", "http://", "oci://"))
