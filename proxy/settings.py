"""Settings: one YAML file and `SIDEGATE_*` overrides, read once into a frozen value (design section 18).

The only module that reads the environment. An override names a path: `SIDEGATE_OPA__DEADLINE=500ms` sets `opa.deadline`.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from proxy.adapters.yaml_file import load_yaml
from proxy.core.duration import seconds
from proxy.core.oci_reference import SCHEME, read_reference
from proxy.core.schemas import compile_schema
from proxy.core.settings_schema import SCHEMA
from proxy.settings_values import Bundle, Issuer, Limits, Listen, Opa, Settings, Tokens, Valkey, is_url

__all__ = ["Bundle", "Issuer", "Limits", "Listen", "Opa", "Settings", "SettingsError", "Tokens", "Valkey", "read"]

PREFIX = "SIDEGATE_"
_SAFE_URL = r"https://|http://(127\.0\.0\.1|localhost|\[::1\])(:|/|$)"  # nobody between can change what comes


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
    document, said = _overridden(document, environment)
    problems = [f"{pointer or '/'}: {what}" for pointer, what in compile_schema(SCHEMA).problems(document)]
    if not problems:
        settings, problems = _settings(document, path.parent.resolve(), environment)
        problems += [*_contradictions(settings), *_delivery_problems(settings), *_store_problems(settings.store)]
    if problems:
        raise SettingsError([f"{_source(problem, said) or path}: {problem}" for problem in problems])
    return settings


def _source(problem: str, said: Mapping[str, str]) -> str:
    """The variable that a problem comes from, if it is one; `said` are variables by the path that they set."""
    for pointer, variable in said.items():
        parent, _, leaf = pointer.rpartition("/")
        unknown = f"{parent or '/'}: unknown property '{leaf}'"
        if problem.startswith((f"{pointer}:", f"{pointer}/", unknown)):
            return variable
    return ""


def bare() -> Settings:
    """Settings of a command that can do without a settings file: only where `deploy/tools.sh` keeps its tools."""
    return Settings(state=Path(), catalog=Path(), tools=_tools(os.environ))


def _overridden(document: Mapping[str, Any], environment: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """The document with what the environment sets, and the variables by the path that each sets."""
    merged, said = dict[str, Any](document), dict[str, str]()
    for name, value in sorted(environment.items()):
        if not name.startswith(PREFIX) or name in NOT_SETTINGS:
            continue
        *parents, leaf = name.removeprefix(PREFIX).lower().split("__")
        said["".join(f"/{part}" for part in (*parents, leaf))] = name
        section, schema = merged, SCHEMA
        for parent in parents:
            child = section.get(parent)
            section[parent] = dict(child) if isinstance(child, dict) else {}
            section, schema = section[parent], _below(schema, parent)
        section[leaf] = _typed(value, _below(schema, leaf).get("type"))
    return merged, said


# Read by scripts and tests of this repository, not by the sidecar.
NOT_SETTINGS = frozenset(
    f"SIDEGATE_{name}"
    for name in ("CACHE", "CONFIG", "FILES", "IMAGE", "PYTHON", "TOOLS_BASE_URL", "TOOLS_ONLY", "URL")
)


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
        "bundle": lambda v: _bundle(v, base),
        "limits": lambda v: Limits(**v),
        "store": lambda v: _valkey(v["valkey"], base),
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
    if (address := fields.get("address", "")).startswith("unix:"):
        fields["address"] = f"unix://{_path(address.removeprefix('unix:'), base)}"
    return Opa(**fields)


def _valkey(given: Mapping[str, Any], base: Path) -> Valkey:
    fields: dict[str, Any] = {
        key: _path(value, base) if key.endswith("_file") else value for key, value in given.items()
    }
    if "deadline" in fields:
        fields["deadline"] = seconds(fields["deadline"])
    return Valkey(**fields)


def _bundle(given: Mapping[str, Any], base: Path) -> Bundle:
    def place(value: str) -> str:
        return value if "://" in value else str(_path(value, base))

    fields = {**given, "platform": place(given["platform"])}
    fields["teams"] = {name: place(value) for name, value in given.get("teams", {}).items()}
    if "key" in fields:
        fields["key"] = _path(fields["key"], base)
    if "every" in fields:
        fields["every"] = seconds(fields["every"])
    return Bundle(**fields)


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
    if "\0" in given:
        raise ValueError("a path that holds a null character names no file")
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
        "/tokens/issuers, /reviewers/issuers: jwks_url: with plain http to another host, whoever stands between chooses the keys "
        "and can be anybody; use https": any(
            i.jwks_url is not None and re.match(_SAFE_URL, i.jwks_url) is None
            for i in (*settings.tokens.issuers, *settings.reviewers.issuers)
        ),
        "/reviewers/issuers: an (issuer, audience) pair that /tokens accepts, too": bool(
            {(i.issuer, i.audience) for i in settings.reviewers.issuers}
            & {(i.issuer, i.audience) for i in settings.tokens.issuers}
        ),
    }
    return [sentence for sentence, broken in rules.items() if broken]


def _delivery_problems(settings: Settings) -> list[str]:
    """How policy comes must be said once, and what comes over a network must be signed."""
    given, bundle = settings.policy != Path(), settings.bundle
    if bundle is None:
        return [] if given else ["/policy: missing; name policy.yaml, or a built bundle under `bundle`"]
    rules = {
        "/policy, /policy_folders: have no meaning beside `bundle`, which brings its own; leave out one or the other": (
            given or bool(settings.policy_folders)
        ),
        "/bundle/key: a bundle that is fetched from a URL must be signed; name the public key that signed it": (
            bool(bundle.urls) and bundle.key is None
        ),
        "/bundle: plain http to another host can be read and changed under way; use https": any(
            re.match(r"https://|oci://|http://(127\.0\.0\.1|localhost|\[::1\])(:|/|$)", url) is None
            for url in bundle.urls.values()
        ),
        f"/bundle/credential: there is no {bundle.credential} under credentials": (
            bundle.credential is not None and bundle.credential not in settings.credentials
        ),
        "/bundle/every: at least 1s": bundle.every < 1.0,
    }
    return [*(sentence for sentence, broken in rules.items() if broken), *_place_problems(bundle)]


def _place_problems(bundle: Bundle) -> Iterator[str]:
    for name, place in bundle.layers.items():
        where = "/bundle/platform" if name == "platform" else f"/bundle/teams/{name}"
        if "://" in place and not is_url(place):
            yield f"{where}: is a file's path, an https:// URL, or oci://REGISTRY/REPOSITORY:TAG"
        try:
            if place.startswith(SCHEME):
                read_reference(place)
        except ValueError as e:
            yield f"{where}: {e}"


def _store_problems(store: Valkey | None) -> list[str]:
    """What is kept elsewhere crosses a network."""
    if store is None:
        return []
    rules = {
        "/store/valkey/url: redis:// to another host can be read and changed under way; use rediss://": (
            re.match(r"redis://(?!(127\.0\.0\.1|localhost|\[::1\])(:|/|$))", store.url) is not None
        ),
        "/store/valkey/ca_file: has no meaning without rediss://": (
            store.ca_file is not None and not store.url.startswith("rediss://")
        ),
        "/store/valkey/username: needs `password_file`, too": store.username is not None
        and store.password_file is None,
        "/store/valkey/deadline: at least 10ms": store.deadline < 0.01,
    }
    return [sentence for sentence, broken in rules.items() if broken]
