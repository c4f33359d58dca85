"""Settings that contradict each other, and secrets where only references may stand."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.settings import Bundle, SettingsError, read

LEAST: Mapping[str, Any] = {"state": "state", "catalog": "catalog", "policy": "policy.yaml"}
KEYS_IN_CLEAR = "/tokens/issuers, /reviewers/issuers: jwks_url"
ISSUER: Mapping[str, Any] = {"issuer": "https://id.test", "audience": "sidegate", "jwks_url": "https://id.test/keys"}


def problems(folder: Path, **more: Any) -> list[str]:
    """What is wrong, without the file's name that each sentence begins with; nothing if it is read."""
    path = folder / "sidegate.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in {**LEAST, **more}.items() if value is not None}))
    try:
        read(path, {})
    except SettingsError as error:
        return [problem.removeprefix(f"{path}: ") for problem in error.problems]
    return []


@pytest.mark.parametrize(
    ("place", "more"),
    [
        ("/review_port", {"review_port": "0.0.0.0:8902"}),
        ("/review_port", {"review_port": ":8902"}),
        ("/attestation", {"registration": "attested"}),
        ("/opa", {"opa": {"mode": "external", "address": "unix:/o.sock"}}),
        ("/opa", {"opa": {"mode": "external", "bundle": "b"}}),
        ("/opa/address", {"opa": {"mode": "external", "bundle": "b", "address": "http://opa.internal:8181"}}),
        ("/opa/address", {"opa": {"mode": "external", "bundle": "b", "address": "http://127.0.0.1.evil.test:8181"}}),
        ("/opa/address", {"opa": {"address": "unix:/o.sock"}}),
        ("/reviewers", {"tokens": {"file": "t"}, "reviewers": {"file": "t"}}),
        ("/reviewers", {"tokens": {"file": "t"}, "reviewers": {"file": "other/../t"}}),
        ("/reviewers/issuers", {"tokens": {"issuers": [ISSUER]}, "reviewers": {"issuers": [ISSUER]}}),
        ("/tokens/issuers, /reviewers/issuers", {"tokens": {"issuers": [{"issuer": "https://id", "audience": "a"}]}}),
        ("/tokens/issuers, /reviewers/issuers", {"reviewers": {"issuers": [{**ISSUER, "jwks_file": "k"}]}}),
        (KEYS_IN_CLEAR, {"tokens": {"issuers": [{**ISSUER, "jwks_url": "http://id.test/keys"}]}}),
        (KEYS_IN_CLEAR, {"reviewers": {"issuers": [{**ISSUER, "jwks_url": "http://127.0.0.1.evil.test/keys"}]}}),
        ("/tokens", {"tokens": {"file": "t\0"}}),
    ],
)
def test_settings_that_contradict_each_other_are_refused(tmp_path: Path, place: str, more: Mapping[str, Any]) -> None:
    """Alone, each is one problem."""
    (found,) = problems(tmp_path, **more)
    assert found.startswith(f"{place}: ")


@pytest.mark.parametrize(
    "more",
    [
        {"review_port": {"listen": "0.0.0.0:8902", "tls": {"certificate": "c", "key": "k"}}},
        {"review_port": "unix:review.sock"},
        {"review_port": "localhost:0"},
        {"registration": "attested", "attestation": "keys"},
        {"opa": {"mode": "external", "bundle": "b", "address": "http://127.0.0.1:8181"}},
        {"opa": {"mode": "external", "bundle": "b", "address": "http://[::1]:8181/"}},
        {"tokens": {"file": "t"}, "reviewers": {"file": "r"}},
        {"tokens": {"issuers": [ISSUER]}, "reviewers": {"issuers": [{**ISSUER, "audience": "desk"}]}},
        {"tokens": {"issuers": [{**ISSUER, "jwks_url": "http://127.0.0.1:9/keys"}]}},
        {"tokens": {"issuers": [{**ISSUER, "claims": {"attributes": {"domain": "hd"}}}]}},
    ],
)
def test_what_is_near_a_contradiction_and_none_is_taken(tmp_path: Path, more: Mapping[str, Any]) -> None:
    """No rule says more than it should."""
    assert problems(tmp_path, **more) == []


URL = "https://policy.test/p.tar.gz"
OCI = "oci://registry.test:5000/policies/platform:stable"


@pytest.mark.parametrize(
    ("place", "more"),
    [
        ("/policy", {}),
        ("/policy, /policy_folders", {"policy": "policy.yaml", "bundle": {"platform": "p"}}),
        ("/policy, /policy_folders", {"policy_folders": ["own"], "bundle": {"platform": "p"}}),
        ("/bundle/key", {"bundle": {"platform": URL}}),
        ("/bundle/key", {"bundle": {"platform": "p", "teams": {"team": URL}}}),
        ("/bundle", {"bundle": {"platform": "http://policy.test/p", "key": "k"}}),
        ("/bundle", {"bundle": {"platform": "http://127.0.0.1.evil.test/p", "key": "k"}}),
        ("/bundle/credential", {"bundle": {"platform": URL, "key": "k", "credential": "absent"}}),
        ("/bundle/every", {"bundle": {"platform": URL, "key": "k", "every": "10ms"}}),
        ("/bundle/key", {"bundle": {"platform": OCI}}),
        ("/bundle/platform", {"bundle": {"platform": "oci://registry.test/policies", "key": "k"}}),
        ("/bundle/teams/team", {"bundle": {"platform": OCI, "teams": {"team": "oci://u:secret@r/p:1"}, "key": "k"}}),
        ("/bundle/platform", {"bundle": {"platform": "docker://u:secret@registry.test/p:1", "key": "k"}}),
        ("/bundle", {"bundle": {}}),
        ("/bundle/teams", {"bundle": {"platform": "p", "teams": {"platform": "q"}}}),
        ("/bundle/teams", {"bundle": {"platform": "p", "teams": {"../x": "q"}}}),
    ],
)
def test_policy_comes_one_way_and_over_a_network_only_signed(
    tmp_path: Path, place: str, more: Mapping[str, Any]
) -> None:
    """Alone, each is one problem."""
    (found,) = problems(tmp_path, **{"policy": None, **more})
    assert found.split(": ")[0] == place
    assert "secret" not in found


@pytest.mark.parametrize(
    "bundle",
    [
        {"platform": "p", "teams": {"team": "t"}},
        {"platform": URL, "key": "k", "credential": "api", "every": "1s"},
        {"platform": "http://127.0.0.1:8080/p", "teams": {"team": "http://[::1]/t"}, "key": "k"},
        {
            "platform": OCI,
            "teams": {"team": f"oci://127.0.0.1:5000/t@sha256:{'0' * 64}"},
            "key": "k",
            "credential": "api",
        },
    ],
)
def test_policy_may_come_as_files_or_signed_from_a_url(tmp_path: Path, bundle: Mapping[str, Any]) -> None:
    assert problems(tmp_path, policy=None, bundle=bundle, credentials={"api": {"env": "TOKEN"}}) == []


def test_paths_of_layers_are_relative_to_the_settings_and_urls_stay(tmp_path: Path) -> None:
    path = tmp_path / "sidegate.yaml"
    given = {"platform": "p/x.tar.gz", "teams": {"team": URL, "other": OCI}, "key": "k.pem", "every": "2m"}
    path.write_text(yaml.safe_dump({"state": "s", "catalog": "c", "bundle": given}))
    bundle = read(path, {}).bundle
    assert bundle == Bundle(
        platform=str(tmp_path / "p/x.tar.gz"), teams={"team": URL, "other": OCI}, key=tmp_path / "k.pem", every=120.0
    )
    assert list(bundle.layers) == ["platform", "other", "team"]
    assert bundle.urls == {"team": URL, "other": OCI}


def test_a_token_file_of_users_under_another_name_is_no_file_of_reviewers(tmp_path: Path) -> None:
    """A link to the same file is the same file."""
    (tmp_path / "tokens.yaml").write_text("[]")
    (tmp_path / "reviewers.yaml").symlink_to(tmp_path / "tokens.yaml")
    (found,) = problems(tmp_path, tokens={"file": "tokens.yaml"}, reviewers={"file": "reviewers.yaml"})
    assert found.startswith("/reviewers: ")


def test_a_credential_is_a_reference_and_a_literal_one_is_refused_without_being_repeated(tmp_path: Path) -> None:
    """Whatever form it is in."""
    for literal in ({"bearer": "canary-7f3a9"}, {"token": "canary-7f3a9"}, "canary-7f3a9", {"env": "canary-7f3a9"}):
        found = problems(tmp_path, credentials={"crm": literal})
        assert found
        assert "canary" not in str(found)
    assert "canary" not in str(problems(tmp_path, tokens={"tokens": ["canary-7f3a9"]}))
