"""Token verifiers as the settings name them: opaque tokens and JWTs side by side, keys from files, nothing that cannot work."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from proxy.adapters.token_file import token_line
from proxy.adapters.verifiers import ReviewersAlone, attestations, verifier
from proxy.adapters.watched_file import UnusableFileError
from proxy.errors import Code, Refusal
from proxy.model import Principal
from proxy.settings import Issuer, Settings, Tokens
from tests.contracts.tokens import EC_KEY, OTHER_KEY, START, ManualClock, key_set, public, seconds, signed

CLAIMS = {"iss": "https://id.test", "aud": "sidegate", "sub": "ben", "exp": seconds(START, 600), "groups": ["buyer"]}


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


def issuer(folder: Path, **changes: object) -> Issuer:
    keys = folder / "keys.json"
    keys.write_bytes(key_set(public(EC_KEY, "k1")))
    given = Issuer(
        issuer="https://id.test", audience="sidegate", jwks_file=keys, algorithms=("ES256",), claims={"roles": "groups"}
    )
    return replace(given, **changes)  # type: ignore[arg-type]  # fields of the value


def token_file(folder: Path) -> tuple[str, Path]:
    token, line = token_line(subject="ada", roles=("buyer",))
    (folder / "tokens.yaml").write_text(line)
    return token, folder / "tokens.yaml"


async def principal(tokens: Tokens, session: aiohttp.ClientSession, token: str) -> Principal:
    return await verifier(tokens, session, ManualClock()).verify(token)


async def test_opaque_tokens_and_jwts_work_side_by_side(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    """Each by its own rules; claims are read where the settings say."""
    opaque, path = token_file(tmp_path)
    tokens = Tokens(file=path, issuers=(issuer(tmp_path),))
    assert (await principal(tokens, session, opaque)).subject == "ada"
    ben = await principal(tokens, session, signed(CLAIMS))
    assert (ben.id, ben.roles) == ("https://id.test#ben", ("buyer",))


async def test_a_token_that_users_have_too_is_no_reviewers(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    """A line that was copied, or a JWT for both audiences; and nobody's while it cannot be told."""
    opaque, path = token_file(tmp_path)
    own, line = token_line(subject="rita", roles=("sourcing",))
    (tmp_path / "reviewers.yaml").write_text(path.read_text() + line)
    users = verifier(Tokens(file=path, issuers=(issuer(tmp_path),)), session, ManualClock())
    both = Tokens(file=tmp_path / "reviewers.yaml", issuers=(issuer(tmp_path, audience="reviews"),))
    alone = ReviewersAlone(verifier(both, session, ManualClock()), users)
    assert (await alone.verify(own)).subject == "rita"
    assert (await alone.verify(signed(CLAIMS | {"aud": "reviews"}))).subject == "ben"
    for token in (opaque, signed(CLAIMS | {"aud": ["reviews", "sidegate"]}), signed(CLAIMS), "x" * 43):
        with pytest.raises(Refusal) as no:
            await alone.verify(token)
        assert no.value.code is Code.UNAUTHENTICATED

    class Away:
        async def verify(self, token: str) -> Principal:
            raise Refusal(Code.STATE_UNAVAILABLE, "no keys")

    with pytest.raises(Refusal, match="no keys"):
        await ReviewersAlone(verifier(both, session, ManualClock()), Away()).verify(own)


async def test_where_nothing_is_configured_nothing_is_accepted(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    """Neither kind where the other alone is; neither at all by default."""
    opaque, path = token_file(tmp_path)
    cases = (
        (Tokens(), opaque),
        (Tokens(), signed(CLAIMS)),
        (Tokens(file=path), signed(CLAIMS)),
        (Tokens(issuers=(issuer(tmp_path),)), opaque),
        (Tokens(issuers=(issuer(tmp_path, audience="desk"),)), signed(CLAIMS)),
        (Tokens(issuers=(issuer(tmp_path, issuer="https://other.test"),)), signed(CLAIMS)),
        (Tokens(issuers=(issuer(tmp_path, algorithms=("RS256",)),)), signed(CLAIMS)),
        (Tokens(issuers=(issuer(tmp_path),)), signed(CLAIMS, key=OTHER_KEY)),
    )
    for tokens, token in cases:
        with pytest.raises(Refusal) as no:
            await principal(tokens, session, token)
        assert no.value.code is Code.UNAUTHENTICATED


@pytest.mark.parametrize("broken", ["absent", "wrong"])
async def test_files_that_cannot_be_used_are_found_at_the_start(
    tmp_path: Path, session: aiohttp.ClientSession, broken: str
) -> None:
    """Before the first call needs them."""
    given = issuer(tmp_path)
    path = tmp_path / "x"
    if broken == "wrong":
        path.write_text("not what it should be: [")
    for tokens in (Tokens(file=path), Tokens(issuers=(replace(given, jwks_file=path),))):
        with pytest.raises(UnusableFileError, match=str(path)):
            verifier(tokens, session, ManualClock())


@pytest.mark.parametrize(
    "changes",
    [
        {"jwks_file": None},
        {"audience": ""},
        {"algorithms": ("HS256",)},
        {"algorithms": ()},
        {"issuer": "with#hash"},
        {"issuer": "sidegate"},
    ],
)
async def test_an_issuer_that_protects_nothing_is_refused_at_the_start(
    tmp_path: Path, session: aiohttp.ClientSession, changes: dict[str, object]
) -> None:
    """Without keys, audience, asymmetric algorithm or a name of its own."""
    with pytest.raises(ValueError, match=r"issuer|algorithms|audience"):
        verifier(Tokens(issuers=(issuer(tmp_path, **changes),)), session, ManualClock())


async def test_an_issuer_that_is_there_twice_is_refused(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    """Which of the two audiences counts would depend on their order."""
    twice = (issuer(tmp_path), issuer(tmp_path, audience="other"))
    with pytest.raises(ValueError, match="twice"):
        verifier(Tokens(issuers=twice), session, ManualClock())


async def test_keys_behind_a_url_are_not_fetched_at_the_start(session: aiohttp.ClientSession) -> None:
    """The issuer may start after us."""
    remote = Issuer(issuer="https://id.test", audience="sidegate", jwks_url="http://127.0.0.1:9/keys")
    with pytest.raises(Refusal) as no:
        await principal(Tokens(issuers=(remote,)), session, signed(CLAIMS))
    assert no.value.code is Code.UNAUTHENTICATED


def settings(folder: Path, registration: str, keys: Path | None) -> Settings:
    return Settings(state=folder, catalog=folder, policy=folder, registration=registration, attestation=keys)


def test_attestations_are_verified_only_where_the_setting_says_so(tmp_path: Path) -> None:
    """And then their keys must be there."""
    keys = tmp_path / "app.jwks"
    keys.write_bytes(key_set(public(EC_KEY, "app")))
    assert attestations(settings(tmp_path, "claimed", keys), ManualClock()) is None
    assert attestations(settings(tmp_path, "attested", keys), ManualClock()) is not None
    with pytest.raises(UnusableFileError):
        attestations(settings(tmp_path, "attested", tmp_path / "absent"), ManualClock())
