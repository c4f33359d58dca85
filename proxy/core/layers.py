"""A policy bundle as a delivery: a layer's members, its manifest, and the hash by which it is known (design sections 10, 11).

The platform's layer has the composer, the settings and policies; a team's layer has its one policy and nothing else. Settings
travel as the document they were written as, too, so that whoever takes a layer over compiles and checks them anew.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from proxy.core.policy_data import compile_policy
from proxy.core.policy_document import PolicyDataError

PLATFORM = "platform"
SIGNATURES = ".signatures.json"
MANIFEST = ".manifest"
DATA = "sidegate/settings/data.json"
DOCUMENT = "sidegate/settings/policy.json"  # OPA reads no file of another name than data.json as data
_POLICIES = "sidegate/policies/"
_REGO = re.compile(r"sidegate/(?:decision|policies/[A-Za-z0-9_-]+)/[A-Za-z0-9_.-]+\.rego")
_AGAIN = "build it again with `sidegate policy build`"


class LayerError(Exception):
    """This is no layer that can be taken over. `problems` are sentences that continue the name of its file."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """What a layer says. `revision` is the hash of its content; `document` is the platform's alone; `of` are the layers that a
    bundle in force was put together from."""

    name: str
    revision: str
    rego: Mapping[str, bytes]
    document: Mapping[str, Any] | None
    of: Mapping[str, str]


def revision_of(rego: Mapping[str, bytes], settings: Mapping[str, Any], catalog: str) -> str:
    """SHA-256 of all that a decision hangs on. `settings` without their `revision`."""
    digest = hashlib.sha256()
    members = (part for name, content in sorted(rego.items()) for part in (name.encode(), content))
    for part in (catalog.encode(), canonical(settings), *members):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def canonical(value: Mapping[str, Any]) -> bytes:
    """JSON with sorted keys."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def policies_in(rego: Mapping[str, bytes]) -> frozenset[str]:
    """Names of the policies that have a member."""
    return frozenset(name.split("/")[2] for name in rego if name.startswith(_POLICIES))


def platform_members(
    *,
    rego: Mapping[str, bytes],
    document: Mapping[str, Any],
    settings: Mapping[str, Any],
    about: Mapping[str, Any],
    revision: str,
) -> dict[str, bytes]:
    """The members of a platform's layer or of a bundle in force."""
    return {
        **dict(sorted(rego.items())),
        DATA: canonical({**settings, "revision": revision}),
        DOCUMENT: orjson.dumps(document),  # in its author's order, which the order of bounds follows
        MANIFEST: _manifest(revision, ["sidegate"], {"layer": PLATFORM, **about}),
    }


def beside_teams(members: Mapping[str, bytes]) -> dict[str, bytes]:
    """A platform's layer that leaves room for the roots of teams: its roots are folder by folder."""
    manifest = {**_object(members, MANIFEST), "roots": _folders(members)}
    return {**members, MANIFEST: canonical(manifest)}


def team_members(team: str, rego: Mapping[str, bytes]) -> tuple[str, dict[str, bytes]]:
    """The revision and the members of a team's layer."""
    own = {name: content for name, content in sorted(rego.items()) if name.startswith(f"{_POLICIES}{team}/")}
    revision = revision_of(own, {}, "")
    return revision, {**own, MANIFEST: _manifest(revision, [f"{_POLICIES}{team}"], {"layer": team})}


def read_layer(name: str, members: Mapping[str, bytes], schema: Mapping[str, Any]) -> Layer:
    """The layer of that name. `schema` is rego/schemas/policy.json. Raises LayerError with all problems of the first stage."""
    manifest = _object(members, MANIFEST)
    about = manifest.get("metadata", {}).get("sidegate", {}) if isinstance(manifest.get("metadata"), dict) else {}
    if not isinstance(about, dict) or not isinstance(about.get("layer"), str):
        raise LayerError([f"its .manifest does not say which layer it is; {_AGAIN}"])
    if about["layer"] != name:
        raise LayerError([f"is the layer {about['layer']}, not {name}; give it where `bundle` names that layer"])
    rego = {member: content for member, content in sorted(members.items()) if _REGO.fullmatch(member)}
    problems = [*_foreign(name, members, rego), *_wrong_roots(name, manifest, rego)]
    if problems:
        raise LayerError(problems)
    document: Mapping[str, Any] | None = None
    settings: Mapping[str, Any] = {}
    if name == PLATFORM:
        document = _object(members, DOCUMENT)
        settings = _compiled(document, schema)
        told = {key: value for key, value in _object(members, DATA).items() if key != "revision"}
        if told != settings:
            raise LayerError([f"its data are not what this version of Sidegate makes of its policy.yaml; {_AGAIN}"])
    revision = revision_of(rego, settings, str(about.get("catalog", "")))
    if manifest.get("revision") != revision:
        raise LayerError([f"its content is not that of the revision in its .manifest: it was changed; {_AGAIN}"])
    of = about.get("layers")
    of = {str(key): str(value) for key, value in of.items()} if isinstance(of, dict) else {name: revision}
    return Layer(name=name, revision=revision, rego=rego, document=document, of=of)


def merged(layers: Sequence[Layer]) -> dict[str, bytes]:
    """All Rego of the platform and of the teams. Raises LayerError for a policy that two of them have."""
    rego: dict[str, bytes] = {}
    for layer in layers:
        twice = policies_in(layer.rego) & policies_in(rego)
        if twice:
            raise LayerError([f"the policy {name} is already in the platform's layer" for name in sorted(twice)])
        rego |= layer.rego
    return rego


def _folders(members: Mapping[str, bytes]) -> list[str]:
    return sorted({name.rpartition("/")[0] for name in members} - {""})


def _manifest(revision: str, roots: Sequence[str], about: Mapping[str, Any]) -> bytes:
    content = {"revision": revision, "roots": list(roots), "rego_version": 2, "metadata": {"sidegate": dict(about)}}
    return canonical(content)


def _compiled(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        settings: Mapping[str, Any] = orjson.loads(canonical(compile_policy(document, schema)))
    except PolicyDataError as error:
        raise LayerError([f"policy.yaml in it: {problem}" for problem in error.problems]) from None
    return settings


def _object(members: Mapping[str, bytes], name: str) -> dict[str, Any]:
    try:
        value = orjson.loads(members[name])
    except (KeyError, orjson.JSONDecodeError):
        value = None
    if not isinstance(value, dict):
        raise LayerError([f"has no {name} that can be read: it is no bundle of Sidegate's; {_AGAIN}"])
    return value


def _foreign(name: str, members: Mapping[str, bytes], rego: Mapping[str, bytes]) -> list[str]:
    """Data that a policy could read, and policies of others, would become part of the decision unseen."""
    known = {MANIFEST, SIGNATURES, *((DATA, DOCUMENT) if name == PLATFORM else ())}
    strange = [member for member in members if member not in known and member not in rego]
    if name != PLATFORM:
        strange += [member for member in rego if not member.startswith(f"{_POLICIES}{name}/")]
    strange += [member for member in rego if member.endswith("_test.rego")]
    problems = [f"{member} does not belong in the layer {name}" for member in sorted(strange)]
    return problems if rego else [*problems, "has no .rego file"]


def _wrong_roots(name: str, manifest: Mapping[str, Any], rego: Mapping[str, bytes]) -> list[str]:
    allowed = [[f"{_POLICIES}{name}"]]
    if name == PLATFORM:
        allowed = [["sidegate"], _folders({**rego, DATA: b""})]
    if manifest.get("roots") in allowed and manifest.get("rego_version") == 2:
        return []
    return [f"its .manifest must have the roots {', '.join(allowed[-1])} and rego_version 2"]
