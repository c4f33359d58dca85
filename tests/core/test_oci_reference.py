"""Names in a registry: what is one, what is not, and where it leads."""

import pytest

from proxy.core.oci_reference import Reference, read_reference

DIGEST = f"sha256:{'0a' * 32}"
HOST = "oci://registry.example"


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        (f"{HOST}/p:1.0", Reference(registry="registry.example", repository="p", wanted="1.0", pinned=False)),
        (
            f"{HOST}:5000/a/b__c/d-e.f:_A",
            Reference(registry="registry.example:5000", repository="a/b__c/d-e.f", wanted="_A", pinned=False),
        ),
        (f"{HOST}/p@{DIGEST}", Reference(registry="registry.example", repository="p", wanted=DIGEST, pinned=True)),
        (f"{HOST}/p:1.0@{DIGEST}", Reference(registry="registry.example", repository="p", wanted=DIGEST, pinned=True)),
        ("oci://[::1]:5000/p:1", Reference(registry="[::1]:5000", repository="p", wanted="1", pinned=False)),
    ],
)
def test_a_reference_names_one_manifest(address: str, wanted: Reference) -> None:
    """By a tag, or by a digest, which counts where both stand."""
    assert read_reference(address) == wanted


REGISTRY, REPOSITORY, TAG, BY_DIGEST = "a registry's name", "name a repository", "a tag or a digest", "its digest must"


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("oci://", REGISTRY),
        ("oci:///p:1", REGISTRY),
        ("oci://user:secret@registry.example/p:1", REGISTRY),
        ("oci://registry..example/p:1", REGISTRY),
        ("oci://-registry/p:1", REGISTRY),
        (f"oci://{'a' * 64}.example/p:1", REGISTRY),
        (f"oci://{'a.' * 128}example/p:1", REGISTRY),
        ("oci://registry.example:65536/p:1", REGISTRY),
        ("oci://registry.example:/p:1", REGISTRY),
        ("oci://registry.example\\@evil.example/p:1", REGISTRY),
        (HOST, REPOSITORY),
        (f"{HOST}/", REPOSITORY),
        (f"{HOST}/P:1", REPOSITORY),
        (f"{HOST}//p:1", REPOSITORY),
        (f"{HOST}/../p:1", REPOSITORY),
        (f"{HOST}/p/:1", REPOSITORY),
        (f"{HOST}/p%2f..:1", REPOSITORY),
        (f"{HOST}/{'p' * 256}:1", REPOSITORY),
        (f"{HOST}/p?x=1:1", REPOSITORY),
        (f"{HOST}/p", TAG),
        (f"{HOST}/p:", TAG),
        (f"{HOST}/p:-1", TAG),
        (f"{HOST}/p:1/2", TAG),
        (f"{HOST}/p:1\n", TAG),
        (f"{HOST}/p:{'1' * 129}", TAG),
        (f"{HOST}/p:@{DIGEST}", TAG),
        (f"{HOST}/p@{DIGEST[:-1]}", BY_DIGEST),
        (f"{HOST}/p@{DIGEST.upper()}", BY_DIGEST),
        (f"{HOST}/p@sha512:{'0' * 128}", BY_DIGEST),
        (f"{HOST}/p:1@", BY_DIGEST),
    ],
)
def test_what_is_no_reference_is_told_with_a_sentence(address: str, wanted: str) -> None:
    """Without the address, which might hold a password."""
    with pytest.raises(ValueError, match=wanted) as error:
        read_reference(address)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("registry", "base", "loopback"),
    [
        ("registry.example:5000", "https://registry.example:5000/v2/p", False),
        ("127.0.0.1.example", "https://127.0.0.1.example/v2/p", False),
        ("localhost.example:5000", "https://localhost.example:5000/v2/p", False),
        ("127.0.0.1:5000", "http://127.0.0.1:5000/v2/p", True),
        ("localhost", "http://localhost/v2/p", True),
        ("[::1]:5000", "http://[::1]:5000/v2/p", True),
        ("[::1]", "http://[::1]/v2/p", True),
    ],
)
def test_only_a_registry_on_loopback_is_spoken_to_in_clear_text(registry: str, base: str, loopback: bool) -> None:
    found = read_reference(f"oci://{registry}/p:1")
    assert (found.base, found.loopback) == (base, loopback)
