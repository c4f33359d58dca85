"""Settings: every one is read, all that is wrong is said at once with its place, and secrets are references."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.adapters.yaml_file import YamlError
from proxy.core.hold_rules import HoldLimits
from proxy.core.settings_schema import SCHEMA
from proxy.settings import NOT_SETTINGS, Issuer, Limits, Listen, Opa, Settings, SettingsError, Tokens, Valkey, read

LEAST: Mapping[str, Any] = {"state": "state", "catalog": "catalog", "policy": "policy.yaml"}
ISSUER: Mapping[str, Any] = {"issuer": "https://id.test", "audience": "sidegate", "jwks_url": "https://id.test/keys"}


def write(folder: Path, document: Any) -> Path:
    path = folder / "sidegate.yaml"
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    return path


def given(folder: Path, environment: Mapping[str, str] | None = None, **more: Any) -> Settings:
    return read(write(folder, {**LEAST, **more}), environment or {})


def problems(folder: Path, environment: Mapping[str, str] | None = None, **more: Any) -> list[str]:
    """What is wrong, without the name of the file, or of the variable, that each sentence begins with."""
    with pytest.raises(SettingsError) as error:
        given(folder, environment, **more)
    starts = {str(folder / "sidegate.yaml"), *(environment or ())}
    parted = [problem.partition(": ") for problem in error.value.problems]
    assert {start for start, _, _ in parted} <= starts
    return [problem for _, _, problem in parted]


def test_every_setting_is_read(tmp_path: Path) -> None:
    """A document with all of them gives a value in which none has its default."""
    everything = {
        **LEAST,
        "policy_folders": ["own", "/abs/own"],
        "agent_port": "unix:agent.sock",
        "review_port": {"listen": "0.0.0.0:9002", "tls": {"certificate": "tls.crt", "key": "/k/tls.key"}},
        "probe_port": "[::1]:9001",
        "opa": {
            "mode": "external",
            "binary": "/o/opa",
            "address": "unix:/o.sock",
            "bundle": "b.tgz",
            "deadline": "1.5s",
        },
        "tokens": {"file": "tokens.yaml"},
        "reviewers": {
            "issuers": [
                {
                    "issuer": "https://id.test",
                    "audience": "desk",
                    "jwks_file": "keys.json",
                    "algorithms": ["EdDSA"],
                    "claims": {"roles": "groups", "tenant": "org", "name": "nick"},
                },
                ISSUER,
            ]
        },
        "registration": "attested",
        "attestation": "app.jwks",
        "conversation_ttl": "2h",
        "credentials": {
            "a": {"bearer_file": "a.token"},
            "b": {"basic_file": "/b"},
            "c": {"header_file": "c", "header": "X-Key"},
            "d": {"env": "D_TOKEN"},
        },
        "patience": "250ms",
        "review_ttl": "10m",
        "drain": "3s",
        "limits": dict.fromkeys(Limits.__dataclass_fields__, 7),
        "agent": {"namespace": "n", "service_account": "s", "pod": "p", "spiffe_id": "spiffe://x/y"},
        "audit_copy": True,
        "store": {"valkey": {"url": "rediss://v:6379/0", "mac_key_file": "mac.key", "deadline": "100ms"}},
    }
    assert set(everything) | {"bundle"} == set(SCHEMA["properties"])  # which stands instead of `policy`
    environment = {"D_TOKEN": "t", "OTEL_SERVICE_NAME": "x", "OTHER": "y", "XDG_CACHE_HOME": "/cache"}
    assert read(write(tmp_path, everything), environment) == Settings(
        state=tmp_path / "state",
        catalog=tmp_path / "catalog",
        policy=tmp_path / "policy.yaml",
        policy_folders=(tmp_path / "own", Path("/abs/own")),
        agent_port=Listen(path=tmp_path / "agent.sock"),
        review_port=Listen(host="0.0.0.0", port=9002, certificate=tmp_path / "tls.crt", key=Path("/k/tls.key")),
        probe_port=Listen(host="::1", port=9001),
        opa=Opa(mode="external", binary="/o/opa", address="unix:///o.sock", bundle=tmp_path / "b.tgz", deadline=1.5),
        tokens=Tokens(file=tmp_path / "tokens.yaml"),
        reviewers=Tokens(
            issuers=(
                Issuer(
                    issuer="https://id.test",
                    audience="desk",
                    jwks_file=tmp_path / "keys.json",
                    algorithms=("EdDSA",),
                    claims={"roles": "groups", "tenant": "org", "name": "nick"},
                ),
                Issuer(issuer="https://id.test", audience="sidegate", jwks_url="https://id.test/keys"),
            )
        ),
        registration="attested",
        attestation=tmp_path / "app.jwks",
        conversation_ttl=7200.0,
        credentials={
            "a": {"bearer_file": str(tmp_path / "a.token")},
            "b": {"basic_file": "/b"},
            "c": {"header_file": str(tmp_path / "c"), "header": "X-Key"},
            "d": {"env": "D_TOKEN"},
        },
        patience=0.25,
        review_ttl=600.0,
        drain=3.0,
        limits=Limits(**dict.fromkeys(Limits.__dataclass_fields__, 7)),
        agent={"namespace": "n", "service_account": "s", "pod": "p", "spiffe_id": "spiffe://x/y"},
        audit_copy=True,
        store=Valkey(url="rediss://v:6379/0", mac_key_file=tmp_path / "mac.key", deadline=0.1),
        variables={"D_TOKEN": "t", "OTEL_SERVICE_NAME": "x"},
        tools=Path("/cache/sidegate/tools"),
    )


def test_defaults_stand_where_nothing_is_said(tmp_path: Path) -> None:
    """Three settings are required, the rest are as documented; the agent and review ports are on loopback."""
    settings = given(tmp_path)
    assert settings == Settings(
        state=tmp_path / "state",
        catalog=tmp_path / "catalog",
        policy=tmp_path / "policy.yaml",
        tools=Path("/.cache/sidegate/tools"),
    )
    assert (settings.agent_port.loopback, settings.review_port.loopback, settings.probe_port.loopback) == (
        True,
        True,
        False,
    )
    assert (settings.patience, settings.review_ttl, settings.opa.deadline) == (4.0, 900.0, 0.25)


def test_limits_of_holds_are_those_of_the_settings() -> None:
    """Each under its own name."""
    limits = Limits(
        holds_per_conversation=1, holds_per_principal=2, holds_per_agent=3, holds=4, new_holds_per_hour=5, rejections=6
    )
    assert limits.of_holds() == HoldLimits(conversation=1, principal=2, agent=3, total=4, new_per_hour=5, rejections=6)
    assert Limits().of_holds() == HoldLimits()


def test_everything_that_is_wrong_is_said_at_once_with_its_place(tmp_path: Path) -> None:
    """Unknown keys at every level, wrong types and patterns, what is missing."""
    document = {
        "state": "",
        "policy": 7,
        "colour": "red",
        "opa": {"deadline": "fast", "adress": "unix:/x", "mode": "maybe"},
        "limits": {"in_flight": 0, "holds": "many"},
        "agent": {"colour": "red"},
        "tokens": {"issuers": [{"issuer": "https://id.test", "jwks_url": "ftp://x", "algorithms": ["HS256"]}]},
        "credentials": {"x": {"bearer_file": "a", "basic_file": "b"}},
        "agent_port": "nowhere",
        "patience": 4,
    }
    with pytest.raises(SettingsError) as error:
        read(write(tmp_path, document), {})
    places = [
        problem.removeprefix(f"{tmp_path / 'sidegate.yaml'}: ").split(": ")[0] for problem in error.value.problems
    ]
    assert sorted(places) == [
        "/",
        "/",
        "/agent",
        "/agent_port",
        "/credentials/x",
        "/limits/holds",
        "/limits/in_flight",
        "/opa",
        "/opa/deadline",
        "/opa/mode",
        "/patience",
        "/policy",
        "/state",
        "/tokens/issuers/0",
        "/tokens/issuers/0/algorithms/0",
        "/tokens/issuers/0/jwks_url",
    ]
    assert str(error.value) == "\n".join(error.value.problems)


def test_wrong_values_and_contradictions_are_said_together(tmp_path: Path) -> None:
    """Each with the path of its setting."""
    found = problems(
        tmp_path,
        agent_port="127.0.0.1:99999",
        review_ttl="9999999h",
        attestation="~nobody-has-this-name/x",
        registration="attested",
        opa={"mode": "external"},
    )
    assert [p.split(":")[0] for p in found] == ["/agent_port", "/attestation", "/review_ttl", "/attestation", "/opa"]


def test_overrides_name_paths_and_have_the_type_that_the_setting_has(tmp_path: Path) -> None:
    """Nested ones too, beside what the file says; numbers are text where text is wanted."""
    settings = given(
        tmp_path,
        {
            "SIDEGATE_STATE": "/elsewhere",
            "SIDEGATE_OPA__DEADLINE": "500ms",
            "SIDEGATE_LIMITS__IN_FLIGHT": "9",
            "SIDEGATE_AUDIT_COPY": "true",
            "SIDEGATE_AGENT__POD": "2027",
            "SIDEGATE_AGENT__SERVICE_ACCOUNT": "true",
            "SIDEGATE_CREDENTIALS__CRM__BEARER_FILE": "crm.token",
            "SIDEGATE_AGENT_PORT": "127.0.0.1:1",
        },
        opa={"binary": "my-opa", "deadline": "1s"},
        limits={"holds": 3},
    )
    assert settings.state == Path("/elsewhere")
    assert (settings.opa.binary, settings.opa.deadline) == ("my-opa", 0.5)
    assert (settings.limits.in_flight, settings.limits.holds, settings.audit_copy) == (9, 3, True)
    assert settings.agent == {"pod": "2027", "service_account": "true"}
    assert settings.credentials == {"crm": {"bearer_file": str(tmp_path / "crm.token")}}
    assert settings.agent_port.port == 1


def test_overrides_are_checked_like_the_file(tmp_path: Path) -> None:
    """Unknown names and wrong values are refused; what scripts read is not taken for a setting."""
    found = problems(
        tmp_path,
        {"SIDEGATE_COLOUR": "red", "SIDEGATE_LIMITS__HOLDS": "many", "SIDEGATE_AUDIT_COPY": "1", "SIDEGATE_": "x"},
    )
    assert sorted(p.split(": ")[0] for p in found) == ["/", "/", "/audit_copy", "/limits/holds"]
    given(tmp_path, dict.fromkeys(NOT_SETTINGS, "anything"))


@pytest.mark.parametrize(
    ("name", "value", "path"),
    [
        ("SIDEGATE_OPA__DEADLIN", "1s", "/opa"),
        ("SIDEGATE_COLOUR", "red", "/"),
        ("SIDEGATE_PATIENCE", "soon", "/patience"),
        ("SIDEGATE_REVIEW_PORT", "0.0.0.0:8902", "/review_port"),
    ],
)
def test_what_is_wrong_with_an_override_names_the_variable(tmp_path: Path, name: str, value: str, path: str) -> None:
    """The file has nothing that could be mended; what is wrong with the file still names the file."""
    with pytest.raises(SettingsError) as error:
        given(tmp_path, {name: value, "SIDEGATE_DRAIN": "5s"}, size=1)
    found = error.value.problems
    if path != "/review_port":  # contradictions are looked for in what is well formed by itself
        assert any(problem.startswith(f"{name}: {path}: ") for problem in found)
        assert any(problem.startswith(f"{tmp_path / 'sidegate.yaml'}: /: unknown property 'size'") for problem in found)
    with pytest.raises(SettingsError, match=rf"^{name}: {path}: "):
        given(tmp_path, {name: value})


def test_the_file_is_not_changed_by_overrides_of_a_mapping_that_is_text(tmp_path: Path) -> None:
    """A port in its short form gives way to an override of its long one."""
    settings = given(tmp_path, {"SIDEGATE_AGENT_PORT__LISTEN": "127.0.0.1:7"}, agent_port="127.0.0.1:8")
    assert settings.agent_port == Listen(host="127.0.0.1", port=7)


def test_paths_are_those_beside_the_file_and_home_is_known(tmp_path: Path) -> None:
    """Wherever the process stands; the result is absolute."""
    (tmp_path / "etc").mkdir()
    settings = given(tmp_path / "etc", state="../var", catalog="~/catalog")
    assert settings.state.resolve() == tmp_path / "var"
    assert settings.catalog == Path.home() / "catalog"
    assert settings.policy.is_absolute()


@pytest.mark.parametrize("text", ["~", "[]", "just text", "7"])
def test_what_is_no_mapping_is_one_problem(tmp_path: Path, text: str) -> None:
    """And no traceback."""
    with pytest.raises(SettingsError, match="must be a mapping"):
        read(write(tmp_path, text), {})


def test_what_is_no_yaml_says_where(tmp_path: Path) -> None:
    """A file that is not there, and a key that is there twice."""
    with pytest.raises(YamlError):
        read(tmp_path / "absent.yaml", {})
    with pytest.raises(YamlError, match=r"sidegate\.yaml:2"):
        read(write(tmp_path, "state: a\nstate: b\n"), {})
