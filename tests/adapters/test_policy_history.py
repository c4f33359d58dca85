"""The policies that were in force: kept whole, found again, and taken only as they were verified."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from proxy.adapters.bundle import Assembled, BundleError, Sources, assemble, bind, policy_schema
from proxy.adapters.bundle_check import Checks
from proxy.adapters.policy_history import KEEP, Pin, PolicyHistory, fingerprint
from tests.adapters.keys import rsa_pair
from tests.adapters.team import REGO, SAMPLE
from tests.contracts.opa_server import opa_binary

SCHEMA = policy_schema(Sources(shipped=REGO))


async def policy(number: int, catalog: str = "c1") -> Assembled:
    """One of several that differ."""
    document = {**SAMPLE, "custom": {"number": {"is": number}}}
    return await assemble(opa_binary(), Sources(shipped=REGO), document, catalog_revision=catalog)


def note(history: PolicyHistory, assembled: Assembled, number: int, **more: Any) -> None:
    given: dict[str, Any] = {
        "source": f"s{number}",
        "key": None,
        "at": f"2026-11-25T00:00:0{number}+00:00",
        "pin": None,
    }
    history.installed(assembled, **given | more)


def pin(history: PolicyHistory, place: int) -> Pin:
    entries = history.entries()
    return Pin(content=entries[place].content, source=entries[0].source, by="ada", at="now")


async def test_the_last_few_are_kept_newest_first(tmp_path: Path) -> None:
    """Each content once, with the revision it had last; the files of those that fell out are gone."""
    history = PolicyHistory(tmp_path / "policy")
    assert (history.entries(), history.in_force(), history.pin()) == ([], "", None)
    made = [await policy(number) for number in range(KEEP + 1)]
    for number, assembled in enumerate(made):
        note(history, assembled, number)
    note(history, await policy(KEEP, "c2"), 7)
    assert [entry.source for entry in history.entries()] == ["s7", "s4", "s3", "s2", "s1"]
    assert history.entries()[0].since.endswith("05+00:00")
    assert history.entries()[1].revision == made[4].revision
    kept = {entry.name for entry in (tmp_path / "policy" / "kept").iterdir()}
    assert kept == {f"{entry.content}.tar.gz" for entry in history.entries()}
    assert history.find(made[4].revision[:12]) == [history.entries()[1]]
    assert history.find("zz") == []
    assert all(not path.stat().st_mode & 0o077 for path in (tmp_path / "policy").rglob("*.*"))


async def test_a_kept_policy_is_the_same_policy_for_any_catalog(tmp_path: Path) -> None:
    """Bound again to its catalog it has its revision again."""
    history = PolicyHistory(tmp_path)
    one = await policy(1)
    note(history, one, 1)
    note(history, await policy(2), 2)
    content = history.content(pin(history, 1), None, SCHEMA)
    checks = Checks(opa=opa_binary(), shipped=REGO)
    assert (await bind(content, checks, catalog_revision="c1")).revision == one.revision
    assert (await bind(content, checks, catalog_revision="c2")).revision == (await policy(1, "c2")).revision


async def test_going_back_makes_no_new_entry(tmp_path: Path) -> None:
    history = PolicyHistory(tmp_path)
    one, two = await policy(1), await policy(2)
    note(history, one, 1)
    note(history, two, 2)
    history.set_pin(pin(history, 1))
    back = history.pin()
    assert back == pin(history, 1)
    note(history, one, 2, pin=back)
    assert [entry.revision for entry in history.entries()] == [two.revision, one.revision]
    assert history.in_force() == history.entries()[1].content
    history.end_pin()
    history.end_pin()
    assert history.pin() is None


@pytest.mark.parametrize("how", ["gone", "unlisted", "cut", "changed", "key"])
async def test_a_kept_policy_that_is_not_as_it_was_verified_is_refused(tmp_path: Path, how: str) -> None:
    """The sentence names the file and how to end the rollback."""
    history = PolicyHistory(tmp_path)
    note(history, await policy(1), 1)
    back, key = pin(history, 0), None
    path = next((tmp_path / "kept").iterdir())
    match how:
        case "gone":
            path.unlink()
        case "unlisted":
            (tmp_path / "history.json").write_text("{}")
        case "cut":
            path.write_bytes(path.read_bytes()[:-9])
        case "changed":
            path.write_bytes(b"")
        case "key":
            key = rsa_pair(tmp_path)[1]
    with pytest.raises(BundleError, match="rollback --end") as error:
        history.content(back, key, SCHEMA)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"entries": [3, {"content": "x"}]}', '{"content": "x"}'])
async def test_files_that_are_none_count_as_absent(tmp_path: Path, content: str) -> None:
    history = PolicyHistory(tmp_path)
    (tmp_path / "history.json").write_text(content)
    history.pin_file.write_text(content)
    assert (history.entries(), history.in_force(), history.pin()) == ([], "", None)


def test_keys_are_told_apart(tmp_path: Path) -> None:
    one, two = rsa_pair(tmp_path, "a")[1], rsa_pair(tmp_path, "b")[1]
    assert len({fingerprint(None), fingerprint(one), fingerprint(two), fingerprint(tmp_path / "absent")}) == 4
    assert orjson.dumps(fingerprint(one)) == orjson.dumps(fingerprint(one))
