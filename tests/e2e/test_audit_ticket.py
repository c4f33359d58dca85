"""From a ticket with a user's name and a time to the rule, over shipped logs and nothing else: no pod, no state directory."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.e2e.rig import REPO, Rig, rig

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
PART = 500  # bytes of one part of a long line; container runtimes cut at 16 KiB


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipped:
    """What a log store has of a sidecar that is gone, and the bundle that it ran with; the folder has nothing else."""

    log: bytes
    folder: Path
    bundle: Path
    settings: Path
    began: datetime
    calls: dict[str, str]  # tool -> call id

    def ask(self, *words: str | Path, log: bytes | None = None) -> tuple[int, str, str]:
        """A command over the log on standard input, in a folder of its own."""
        done = subprocess.run(
            [sys.executable, "-m", "proxy.cli", *map(str, words)],
            input=self.log if log is None else log,
            capture_output=True,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(REPO)},
            check=False,
            timeout=60,
        )
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def explain(self, name: str, *words: str | Path, log: bytes | None = None) -> tuple[int, dict[str, Any]]:
        """The explanation of one decision, by the bundle it was made with unless `words` say otherwise."""
        given = words or ("--bundle", self.bundle)
        code, out, err = self.ask("policy", "explain", name, "--json", *given, log=log)
        assert out.startswith("["), err
        (told,) = json.loads(out)
        return code, dict(told)


async def day(made: Rig) -> dict[str, str]:
    """What Ada's agent did: two reads, a price that is held, an order that is refused; and a stranger's call."""
    handle = await made.register("c1")
    calls = {}
    for name in ("get_stock", "get_terms", "get_price"):
        calls[name] = (await made.send(handle, name)).call_id
    calls["create_order"] = (await made.send(handle, "create_order", {"sku": "S" * 700, "quantity": 500.10})).call_id
    calls["nope"] = (await made.send(handle, "nope")).call_id
    calls["anonymous"] = (await made.send(None, "get_stock")).call_id
    return calls


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shipped(tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    """One day's log, both streams in one file as a runtime collects them."""
    folder = tmp_path_factory.mktemp("empty")
    async with rig(tmp_path_factory.mktemp("pod")) as made:
        made.settings["audit_copy"] = True
        made.policy["grants"]["tools"]["create_order"] = {
            "buyer": {"arguments": {"quantity": {"max": 300}}},
            "lead": {},
        }
        began = datetime.now(UTC)
        await made.start()
        calls = await day(made)
        await made.stop()
        settings = made.folder / "sidegate.yaml"
        bundle = folder.parent / "policy.tar.gz"
        words = ("policy", "build", "--settings", str(settings), "--output", str(bundle))
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "proxy.cli", *words, cwd=REPO)
        assert await process.wait() == 0
        log = made.log().encode()
    return Shipped(log=log, folder=folder, bundle=bundle, settings=settings, began=began, calls=calls)


def cri(log: bytes) -> bytes:
    """As the kubelet writes a container's log, long lines in parts."""
    out = []
    for line in log.splitlines():
        parts = [line[i : i + PART] for i in range(0, len(line), PART)] or [b""]
        out += [b"2026-11-25T10:00:00.1Z stdout P " + part for part in parts[:-1]]
        out.append(b"2026-11-25T10:00:00.1Z stdout F " + parts[-1])
    return b"\n".join(out) + b"\n"


def docker(log: bytes) -> bytes:
    """As Docker's json-file driver writes it."""
    lines = (
        json.dumps({"log": line, "stream": "stdout", "time": "t"}) for line in log.decode().splitlines(keepends=True)
    )
    return "\n".join(lines).encode() + b"\n"


def kubectl(log: bytes) -> bytes:
    """As `kubectl logs --prefix --timestamps` prints it."""
    return b"".join(b"[pod/buyer-1/sidegate] 2026-11-25T10:00:00Z " + line for line in log.splitlines(keepends=True))


@pytest.mark.parametrize("wrap", [bytes, cri, docker, kubectl])
async def test_a_name_and_a_time_find_the_call_and_the_call_finds_its_rule(
    shipped: Shipped, wrap: Callable[[bytes], bytes]
) -> None:
    """The ticket: "Ada Example could not order this morning"."""
    log = wrap(shipped.log)
    since, until = shipped.began.isoformat(), (shipped.began + timedelta(hours=1)).isoformat()
    when = ("--since", since, "--until", until)
    code, out, err = shipped.ask(
        "audit", "find", "--principal", "ada example", *when, "--decision", "deny", "-", log=log
    )
    assert (code, err) == (0, "")
    (line,) = out.splitlines()
    call = shipped.calls["create_order"]
    assert f"call {call}: create_order v1 refused: denied, it did not run [Ada Example" in line
    code, told = shipped.explain(call, "--bundle", shipped.bundle, log=log)
    assert (code, told["agrees"], told["recorded"]["revision"]) == (0, True, told["revision"])
    found = {f"{each['policy']}.{each['code']}": each for each in told["reasons"]}
    assert set(found) == {"arguments.over_limit", "grants.out_of_bounds", "combination.sourcing_triangle"}
    rule = found["arguments.over_limit"]
    assert rule["title"] == "A number above the highest limit of the principal's roles"
    assert "policy.tar.gz/sidegate/policies/arguments/arguments.rego:" in rule["rule"]
    assert rule["fix"].startswith("lower quantity to at most 100")
    assert rule["settings"] == ["arguments.create_order.limits.quantity is {buyer: 100}; the principal has buyer"]
    assert "create_order.buyer matched" in found["grants.out_of_bounds"]["settings"][0]
    assert told["otherwise"] == {"held for a person": ["with quantity 100"]}


async def test_a_held_call_is_explained_by_the_calls_that_led_there(shipped: Shipped) -> None:
    """Its earlier calls are rebuilt from their own records; in words for people, too."""
    code, told = shipped.explain(shipped.calls["get_price"])
    assert (code, told["agrees"], told["effect"]) == (0, True, "review")
    (entry,) = told["reasons"][0]["settings"]
    assert "system:inventory since call 1, system:suppliers since call 2, system:pricing by this call" in entry
    assert told["otherwise"] == {"allowed": ["in a new conversation", "with a yes of sourcing-leads"]}
    _, out, _ = shipped.ask("policy", "explain", shipped.calls["get_price"], "--bundle", shipped.bundle)
    assert "today      held for a person by the same revision: as recorded" in out
    assert "would be allowed: in a new conversation; with a yes of sourcing-leads" in out


async def test_calls_without_a_grant_or_without_a_decision_are_explained_too(shipped: Shipped) -> None:
    code, told = shipped.explain(shipped.calls["anonymous"])
    (reason,) = [each for each in told["reasons"] if each["code"] == "not_granted"]
    assert (code, reason["settings"]) == (
        0,
        ["grants.systems.inventory.read names buyer; the principal has unknown"],
    )
    code, told = shipped.explain(shipped.calls["nope"])
    assert (code, told["recorded"]["code"]) == (0, "unknown_tool")
    assert told["gap"] == "it was refused before policy was asked"


async def test_missing_records_are_said_and_nothing_is_made_up(shipped: Shipped) -> None:
    """The log store has lost the record of an earlier call."""
    lost = shipped.calls["get_stock"].encode()
    log = b"".join(line for line in shipped.log.splitlines(keepends=True) if lost not in line)
    code, told = shipped.explain(shipped.calls["get_price"], "--bundle", shipped.bundle, log=log)
    assert code == 1
    assert told["gap"].startswith("1 of 2 earlier calls")
    assert "reasons" not in told
    code, _, err = shipped.ask("policy", "explain", "no-such-call", "--bundle", shipped.bundle)
    assert code == 1
    assert "audit find" in err


async def test_another_revision_is_said(shipped: Shipped) -> None:
    """A policy that has changed since decides otherwise, and says that it is another."""
    changed = shipped.settings.with_name("changed.yaml")
    changed.write_text(shipped.settings.with_name("policy.yaml").read_text().replace("buyer: 100", "buyer: 1000"))
    given = ("--settings", shipped.settings, "--policy", changed)
    code, told = shipped.explain(shipped.calls["create_order"], *given)
    assert (code, told["agrees"]) == (1, False)
    assert told["revision"] != told["recorded"]["revision"]
    _, out, _ = shipped.ask("policy", "explain", shipped.calls["create_order"], *given)
    assert f"ANOTHER revision, {told['revision'][:12]}: NOT as recorded" in out


async def test_replay_shows_what_a_change_of_policy_would_do(shipped: Shipped) -> None:
    """Nothing with the policy of that day; with another, which calls, from what to what, and why."""
    code, out, _ = shipped.ask("policy", "replay", "--bundle", shipped.bundle)
    assert (code, out.splitlines()[0]) == (0, "5 decisions replayed, 0 would differ")
    changed = shipped.settings.with_name("strict.yaml")
    text = shipped.settings.with_name("policy.yaml").read_text().replace("then: review", "then: deny")
    changed.write_text(text.replace("  approvers:\n  - sourcing-leads\n", "", 1))
    given = ("--settings", shipped.settings, "--policy", changed)
    code, out, err = shipped.ask("policy", "replay", "--json", *given)
    assert code == 1, err
    told = json.loads(out)
    assert told["replayed"] == 5
    assert told["differ"]["review -> deny"] == 1
    (example,) = told["examples"]["review -> deny"]
    assert (example["call"], "combination.sourcing_triangle" in example["after"]) == (shipped.calls["get_price"], True)
    code, out, _ = shipped.ask("policy", "replay", "--tool", "get_stock", "--principal", "ada", *given)
    assert (code, out.splitlines()[0]) == (0, "1 decisions replayed, 0 would differ")


async def test_the_chain_is_verified_over_a_shipped_log(shipped: Shipped) -> None:
    """Wrapped and among other lines; a record that was left out breaks it."""
    assert shipped.ask("audit", "verify", "-", log=cri(shipped.log))[0] == 0
    lost = shipped.calls["get_terms"].encode()
    log = b"".join(line for line in shipped.log.splitlines(keepends=True) if lost not in line)
    code, out, _ = shipped.ask("audit", "verify", "-", log=log)
    assert code == 1
    assert "FAILED" in out
