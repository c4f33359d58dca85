"""Names of what a registry holds: `oci://registry/repository:tag` or `...@sha256:digest` (OCI distribution spec 1.1, "Pull")."""

import re
from dataclasses import dataclass

SCHEME = "oci://"
LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_REGISTRY = re.compile(rf"({_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\])(?::([0-9]{{1,5}}))?")
_WORD = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_WORD}(?:/{_WORD})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_LONGEST = 255  # characters of host and repository


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One manifest in one repository. `wanted` is the digest, if one is named, or else the tag."""

    registry: str
    repository: str
    wanted: str
    pinned: bool  # by digest: it can never be another

    @property
    def loopback(self) -> bool:
        """Whether only this machine can see what is said to the registry."""
        return self.registry.rpartition(":")[0] in LOOPBACK or self.registry in LOOPBACK

    @property
    def base(self) -> str:
        """The repository's URL: https, but for a registry on loopback."""
        return f"http{'' if self.loopback else 's'}://{self.registry}/v2/{self.repository}"


def read_reference(address: str) -> Reference:
    """The reference that an address names; where it names tag and digest, the digest counts. Raises ValueError with a sentence."""
    registry, _, rest = address.removeprefix(SCHEME).partition("/")
    named, _, digest = rest.partition("@")
    repository, _, tag = named.partition(":")
    host = _REGISTRY.fullmatch(registry)
    if host is None or len(host[1]) > _LONGEST or int(host[2] or 443) > 65535:
        raise ValueError(
            "must begin with a registry's name, as in oci://registry.example:5000/policies/platform:stable"
        )
    if _REPOSITORY.fullmatch(repository) is None or len(repository) > _LONGEST:
        raise ValueError(
            "must name a repository in lower case after the registry, as in oci://HOST/policies/platform:stable"
        )
    if "@" in rest and DIGEST.fullmatch(digest) is None:
        raise ValueError("its digest must be sha256: and 64 hexadecimal digits in lower case")
    if (":" in named or not digest) and _TAG.fullmatch(tag) is None:
        raise ValueError("must end with a tag or a digest, as in :stable or @sha256:...; `latest` is not assumed")
    return Reference(registry=registry, repository=repository, wanted=digest or tag, pinned=bool(digest))
