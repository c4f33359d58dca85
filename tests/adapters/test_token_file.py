"""Opaque tokens by their hashes."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from proxy.adapters.token_file import DEFAULT_ISSUER, TokenFile, hash_token, parse_tokens, token_line
from proxy.adapters.watched_file import UnusableFileError
from proxy.errors import Code, Refusal, Retry
from proxy.model import Principal
from tests.contracts.tokens import CANARY, START, Given, ManualClock, TokenVerifierContract

TOKEN = f"{CANARY}-Zm9vYmFyYmF6cXV4-token"
HASH = hash_token(TOKEN)
GOOD: dict[str, Any] = {"hash": HASH, "subject": "ben", "roles": ["buyer"]}


def written(path: Path, *lines: str) -> Path:
    path.write_text("".join(lines))
    return path


class TestTokenFile(TokenVerifierContract):
    @pytest.fixture
    def given(self, tmp_path: Path) -> Given:
        clock = ManualClock()
        end = START + timedelta(hours=1)
        _, line = token_line(
            subject="ben", roles=("buyer",), name="Ben", tenant="acme", expires=end, mint=lambda: TOKEN
        )
        _, old = token_line(subject="old", roles=(), expires=START, mint=lambda: "old-token")
        principal = Principal(
            issuer=DEFAULT_ISSUER, subject="ben", name="Ben", tenant="acme", roles=("buyer",), expires_at=end
        )
        verifier = TokenFile(written(tmp_path / "tokens.yaml", line, old), clock)
        return Given(
            verifier=verifier,
            token=TOKEN,
            principal=principal,
            clock=clock,
            bad={
                "expired": "old-token",
                "the hash itself": HASH,
                "another case": TOKEN.upper(),
                "a space": TOKEN + " ",
            },
        )


async def test_a_removed_token_stops_working_and_an_added_one_works(tmp_path: Path) -> None:
    clock = ManualClock()
    first, first_line = token_line(subject="ann", roles=("buyer",))
    second, second_line = token_line(subject="ben", roles=("buyer",))
    path = written(tmp_path / "tokens", first_line)
    tokens = TokenFile(path, clock)
    assert (await tokens.verify(first)).subject == "ann"
    written(path, second_line)
    clock.move(1)
    assert (await tokens.verify(second)).subject == "ben"
    with pytest.raises(Refusal, match="not known"):
        await tokens.verify(first)


async def test_a_broken_edit_keeps_the_old_tokens_but_a_file_that_never_was_good_refuses(tmp_path: Path) -> None:
    clock = ManualClock()
    token, line = token_line(subject="ann", roles=())
    path = written(tmp_path / "tokens", line)
    tokens = TokenFile(path, clock)
    await tokens.verify(token)
    written(path, line, "- {hash: nonsense}\n")
    clock.move(1)
    assert (await tokens.verify(token)).subject == "ann"
    never = TokenFile(path, clock)
    with pytest.raises(Refusal) as refused:
        await never.verify(token)
    assert (refused.value.code, refused.value.retry) == (Code.UNAUTHENTICATED, Retry.LATER)
    assert str(tmp_path) not in refused.value.message
    with pytest.raises(UnusableFileError, match="entry 2"):
        never.check()


def test_minted_tokens_are_256_random_bits_and_only_their_hash_is_in_the_line() -> None:
    minted = [token_line(subject="ann", roles=("a", "b")) for _ in range(50)]
    assert len({token for token, _ in minted}) == 50
    for token, line in minted:
        assert len(token) == 43
        assert token not in line
        assert list(parse_tokens(line.encode())) == [hash_token(token)]


def test_json_and_yaml_are_both_read() -> None:
    as_json = f'[{{"hash": "{HASH}", "subject": "ben", "roles": ["buyer"], "expires": "2027-03-01T12:00:00+02:00"}}]'
    as_yaml = f'- hash: "{HASH}"\n  subject: ben\n  roles: [buyer]\n  expires: 2027-03-01T10:00:00Z\n'
    expected = Principal(
        issuer=DEFAULT_ISSUER, subject="ben", roles=("buyer",), expires_at=datetime(2027, 3, 1, 10, tzinfo=UTC)
    )
    assert parse_tokens(as_json.encode()) == parse_tokens(as_yaml.encode()) == {HASH: expected}


def test_issuer_and_attributes_are_kept_as_given() -> None:
    line = f'- {{hash: "{HASH}", subject: ben, roles: [], issuer: corp, attributes: {{region: eu, own: [1, x]}}}}'
    [principal] = parse_tokens(line.encode()).values()
    assert (principal.id, principal.attributes) == ("corp#ben", {"region": "eu", "own": [1, "x"]})
    assert parse_tokens(b"[]") == {}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"hash": None}, "hash must be"),
        ({"hash": "sha256:" + "A" * 64}, "hash must be"),
        ({"hash": "a" * 64}, "hash must be"),
        ({"hash": HASH + "\n"}, "hash must be"),
        ({"role": ["x"]}, "nothing else"),
        ({"subject": 42}, "subject must be a text"),
        ({"subject": ""}, "subject must be a text"),
        ({"subject": "a\nb"}, "subject must be a text"),
        ({"subject": None}, "subject must be a text"),
        ({"roles": "buyer"}, "roles must be a list"),
        ({"roles": None}, "roles must be a list"),
        ({"roles": ["a", 1]}, "a role must be a text"),
        ({"roles": [["a"]]}, "a role must be a text"),
        ({"tenant": 7}, "tenant must be a text"),
        ({"tenant": ""}, "tenant must be a text"),
        ({"name": True}, "name must be a text"),
        ({"attributes": ["a"]}, "attributes must be a mapping"),
        ({"issuer": "a#b"}, "without #"),
        ({"issuer": "sidegate"}, "reserved"),
        ({"issuer": "sidegate/prober"}, "reserved"),
        ({"expires": "2027-03-01"}, "with its zone"),
        ({"expires": "2027-03-01T12:00:00"}, "with its zone"),
        ({"expires": 1799999999}, "with its zone"),
        ({"expires": "soon"}, "with its zone"),
    ],
)
def test_an_entry_that_is_not_exactly_right_is_refused_with_its_number(change: dict[str, Any], problem: str) -> None:
    other = {"hash": hash_token("other"), "subject": "x", "roles": []}
    with pytest.raises(ValueError, match=f"entry 2: .*{problem}"):
        parse_tokens(orjson.dumps([other, GOOD | change]))


@pytest.mark.parametrize("missing", ["hash", "subject", "roles"])
def test_what_an_entry_needs_must_be_there(missing: str) -> None:
    with pytest.raises(ValueError, match="needs hash, subject and roles"):
        parse_tokens(orjson.dumps([{key: value for key, value in GOOD.items() if key != missing}]))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "null",
        "- [",
        "\xff",
        f'- {{hash: "{HASH}", subject: a, subject: b, roles: []}}',
        f'- {{hash: "{HASH}", subject: a, roles: []}}\n- {{hash: "{HASH}", subject: b, roles: []}}',
        "- !!python/object/apply:os.system [id]",
    ],
    ids=range(8),
)
def test_a_file_that_is_not_a_list_of_different_tokens_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_tokens(text.encode("latin-1"))
