"""Settings: one YAML file and `SIDEGATE_*` overrides, read once into a frozen value (design section 18).

The only module that reads the environment. An override names a path: `SIDEGATE_OPA__DEADLINE=500ms` sets `opa.deadline`.
"""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from proxy.adapters.yaml_file import load_yaml
from proxy.core.duration import seconds
from proxy.core.schemas import compile_schema
from proxy.core.settings_schema import SCHEMA
from proxy.settings_values import Issuer, Limits, Listen, Opa, Settings, Tokens

__all__ = ["Issuer", "Limits", "Listen", "Opa", "Settings", "SettingsError", "Tokens", "read"]

PREFIX = "SIDEGATE_"


class SettingsError(Exception):
    """All that is wrong with the settings, one sentence each, with its path."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def read(path: Path, environment: Mapping[str, str] | None = None) -> Settings:
    """Read the file and the overrides. Raises SettingsError with every problem at once."""
    environment = os.environ if environment is None else environment
    document = load_yaml(path)
    if not isinstance(document, dict):
        raise SettingsError([f"{path}: must be a mapping"])
    document = _overridden(document, environment)
    problems = [f"{path}: {pointer or '/'}: {what}" for pointer, what in compile_schema(SCHEMA).problems(document)]
    if problems:
        raise SettingsError(problems)
    settings, problems = _settings(document, path.parent.resolve(), environment)
    problems = [f"{path}: {problem}" for problem in (*problems, *_contradictions(settings))]
    if problems:
        raise SettingsError(problems)
    return settings


def _overridden(document: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    merged: dict[str, Any] = dict(document)
    for name, value in sorted(environment.items()):
        if not name.startswith(PREFIX) or name in NOT_SETTINGS:
            continue
        *parents, leaf = name.removeprefix(PREFIX).lower().split("__")
        section, schema = merged, SCHEMA
        for parent in parents:
            child = section.get(parent)
            section[parent] = dict(child) if isinstance(child, dict) else {}
            section, schema = section[parent], _below(schema, parent)
        section[leaf] = _typed(value, _below(schema, leaf).get("type"))
    return merged


# Read by scripts and tests of this repository, not by the sidecar.
NOT_SETTINGS = frozenset({"SIDEGATE_CACHE", "SIDEGATE_TOOLS_BASE_URL", "SIDEGATE_TOOLS_ONLY", "SIDEGATE_CONFIG"})


def _below(schema: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = schema.get("properties", {}).get(key, {})
    return found


def _typed(value: str, wanted: str | None) -> Any:
    """Text unless the schema wants something else: a service account may be called 2027, or true."""
    if wanted == "boolean" and value in {"true", "false"}:
        return value == "true"
    return int(value) if wanted == "integer" and re.fullmatch(r"-?[0-9]{1,18}", value) else value


def _settings(d: Mapping[str, Any], base: Path, environment: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """The settings, and what is wrong with single ones, which have their defaults then."""
    readers: dict[str, Callable[[Any], Any]] = {
        **dict.fromkeys(("state", "catalog", "policy", "attestation"), lambda v: _path(v, base)),
        **dict.fromkeys(("agent_port", "review_port", "probe_port"), lambda v: _listen(v, base)),
        **dict.fromkeys(("tokens", "reviewers"), lambda v: _tokens(v, base)),
        **dict.fromkeys(("conversation_ttl", "patience", "review_ttl", "drain"), seconds),
        "policy_folders": lambda v: tuple(_path(p, base) for p in v),
        "opa": lambda v: _opa(v, base),
        "limits": lambda v: Limits(**v),
        "credentials": lambda v: {name: _credential(c, base) for name, c in v.items()},
    }
    given, problems = dict[str, Any](), list[str]()
    for name, value in d.items():
        try:
            given[name] = readers.get(name, lambda v: v)(value)
        except (ValueError, RuntimeError) as e:  # RuntimeError: `~` of nobody
            given |= {name: base} if name in SCHEMA["required"] else {}
            problems.append(f"/{name}: {e}")
    named = {c["env"] for c in d.get("credentials", {}).values() if "env" in c}
    kept = {name: value for name, value in environment.items() if name in named or name.startswith("OTEL_")}
    return Settings(**given, variables=kept, tools=_tools(environment)), problems


def _tools(environment: Mapping[str, str]) -> Path:
    home = environment.get("XDG_CACHE_HOME") or str(Path(environment.get("HOME", "/")) / ".cache")
    return Path(environment.get("SIDEGATE_CACHE") or f"{home}/sidegate") / "tools"


def _credential(given: Mapping[str, str], base: Path) -> dict[str, str]:
    return {key: str(_path(value, base)) if key.endswith("file") else value for key, value in given.items()}


def _opa(given: Mapping[str, Any], base: Path) -> Opa:
    fields = dict(given)
    if "deadline" in fields:
        fields["deadline"] = seconds(fields["deadline"])
    if "bundle" in fields:
        fields["bundle"] = _path(fields["bundle"], base)
    return Opa(**fields)


def _tokens(given: Mapping[str, Any], base: Path) -> Tokens:
    issuers = tuple(
        Issuer(
            **{
                **issuer,
                "algorithms": tuple(issuer.get("algorithms", ("RS256", "ES256"))),
                "jwks_file": _path(issuer["jwks_file"], base) if "jwks_file" in issuer else None,
            }
        )
        for issuer in given.get("issuers", ())
    )
    return Tokens(file=_path(given["file"], base) if "file" in given else None, issuers=issuers)


def _listen(given: str | Mapping[str, Any], base: Path) -> Listen:
    address, tls = (given, {}) if isinstance(given, str) else (given["listen"], given.get("tls", {}))
    certificate = _path(tls["certificate"], base) if tls else None
    key = _path(tls["key"], base) if tls else None
    if address.startswith("unix:"):
        return Listen(path=_path(address.removeprefix("unix:"), base))
    host, _, port = address.rpartition(":")
    if int(port) > 65535:
        raise ValueError(f"{address}: a port is at most 65535")
    return Listen(host=host.strip("[]"), port=int(port), certificate=certificate, key=key)


def _path(given: str, base: Path) -> Path:
    return (base / Path(given).expanduser()).absolute()


def _contradictions(settings: Settings) -> list[str]:
    ports = [listen.address for listen in (settings.agent_port, settings.review_port, settings.probe_port)]
    rules = {
        "/agent_port, /review_port, /probe_port: two of them have one address": len(set(ports)) < len(ports),
        "/review_port: beyond loopback it needs tls (certificate and key)": (
            not settings.review_port.loopback and settings.review_port.certificate is None
        ),
        "/attestation: `registration: attested` needs the application's keys (a JWKS file)": (
            settings.registration == "attested" and settings.attestation is None
        ),
        "/opa: mode external needs `address` and `bundle`": (
            settings.opa.mode == "external" and (not settings.opa.address or settings.opa.bundle is None)
        ),
        "/opa/address: has no meaning in mode supervised, where Sidegate runs OPA itself; did you mean mode external?": (
            settings.opa.mode == "supervised" and bool(settings.opa.address)
        ),
        "/opa/address: plain TCP to another host is not authenticated; use a unix socket or loopback": (
            settings.opa.address.startswith("http://")
            and not re.match(r"http://(127\.0\.0\.1|localhost|\[::1\])(:|/|$)", settings.opa.address)
        ),
        "/reviewers: the same token file as /tokens would let users approve their own calls": (
            settings.reviewers.file is not None
            and settings.tokens.file is not None
            and settings.reviewers.file.resolve() == settings.tokens.file.resolve()
        ),
        "/tokens/issuers, /reviewers/issuers: each issuer needs either jwks_url or jwks_file": any(
            (i.jwks_url is None) == (i.jwks_file is None)
            for i in (*settings.tokens.issuers, *settings.reviewers.issuers)
        ),
        "/reviewers/issuers: an (issuer, audience) pair that /tokens accepts, too": bool(
            {(i.issuer, i.audience) for i in settings.reviewers.issuers}
            & {(i.issuer, i.audience) for i in settings.tokens.issuers}
        ),
    }
    return [sentence for sentence, broken in rules.items() if broken]
