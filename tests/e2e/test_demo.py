"""`sidegate demo`: exit code 0 only if every step went as it should, and what `--keep` prints works."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from proxy.adapters.journal_reader import read
from tests.e2e.jaeger import Jaeger, jaeger_binary

REPO = Path(__file__).parents[2]
CHAPTERS = (
    "Starting",
    "The application registers the buyer's conversation",
    "Three reads that may not meet",
    "A reviewer, with a token of their own, looks and says yes",
    "Another conversation: refusals that teach",
    "A tool that the agent runs itself",
    "An operator throws a stop switch and lifts it",
    "What the audit says",
    "The held call as a trace, and the trace of its resumption",
    "The held call in Jaeger",
    "Every step went as it should",
)
IN_JAEGER = CHAPTERS[-2]
CODES = ("review_pending", "denied", "unknown_tool", "invalid_arguments", "tool_failed", "tool_timeout", "stopped")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def environment(folder: Path) -> dict[str, str]:
    """Ours, with a policy service that may be slow, as on a busy machine."""
    return {**os.environ, "PYTHONPATH": str(REPO), "TMPDIR": str(folder), "SIDEGATE_OPA__DEADLINE": "10s"}


@pytest.fixture
def short() -> Iterator[Path]:
    """A temporary directory whose path leaves room for OPA's socket (107 bytes in all)."""
    with tempfile.TemporaryDirectory(prefix="sg-", dir="/tmp") as made:
        yield Path(made)


def run(*command: str | Path, folder: Path) -> "subprocess.CompletedProcess[str]":
    words = [str(word) for word in command]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=False, env=environment(folder))


def audit_verify(folder: Path) -> "subprocess.CompletedProcess[str]":
    journal = folder / "state" / "journal"
    return run(sys.executable, "-m", "proxy.cli", "audit", "verify", "--dir", journal, folder=folder)


def test_the_whole_story_goes_as_it_should(short: Path) -> None:
    """Every chapter in order, each refusal as the model sees it, the three-level trace, and nothing left behind."""
    done = run(sys.executable, "-m", "proxy.cli", "demo", folder=short)
    assert done.returncode == 0, done.stdout + done.stderr
    chapters = [title for title in CHAPTERS if title != IN_JAEGER]
    titles = [line.split("s  ", 1)[1] for line in done.stdout.splitlines() if line.startswith("==")]
    assert [title for title, wanted in zip(titles, chapters, strict=True) if not title.startswith(wanted)] == []
    for code in CODES:
        assert f'model sees  {{"refused":{{"code":"{code}"' in done.stdout, code
    assert done.stdout.count("   ok  ") == 20
    for span in (
        "execute_tool get_price",
        "decide",
        "[opa]",
        "review requested",
        "review resolved",
        "tools/call get_price",
    ):
        assert span in done.stdout, span
    assert list(short.iterdir()) == []


@pytest.mark.parametrize("missing", ["openai", "anthropic"])
def test_without_the_sdks_it_says_how_to_get_them(missing: str, short: Path) -> None:
    """The runtime environment does not have them; exit code 64, nothing started."""
    (short / "site").mkdir()
    (short / "site" / f"{missing}.py").write_text(f"raise ModuleNotFoundError('gone', name='{missing}')\n")
    words = [sys.executable, "-m", "proxy.cli", "demo"]
    path = f"{short / 'site'}:{REPO}"
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, env=environment(short) | {"PYTHONPATH": path}
    )
    assert (done.returncode, done.stdout) == (64, "")
    assert "quickstart.sh" in done.stderr
    assert [path.name for path in short.iterdir()] == ["site"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A demo that was left running."""

    process: "subprocess.Popen[str]"
    commands: list[str]
    folder: Path
    printed: str


@pytest.fixture
def kept(short: Path, request: pytest.FixtureRequest) -> Iterator[Kept]:
    """`sidegate demo --keep` in a process group of its own, as a terminal starts it, up to its last line. `--jaeger` may be
    its parameter."""
    words = [request.param] if hasattr(request, "param") else []
    path = {"PATH": f"{jaeger_binary().parent}:{os.environ['PATH']}"} if words else {}
    with subprocess.Popen(
        [sys.executable, "-m", "proxy.cli", "demo", "--keep", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(short) | path,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        lines: list[str] = []
        while not lines or "Ctrl-C ends it" not in lines[-1]:
            line = process.stdout.readline()
            assert line, "".join(lines)
            lines.append(line)
        printed = "".join(lines[next(n for n, text in enumerate(lines) if "still running" in text) :])
        (folder,) = short.glob("sidegate-demo-*")
        commands = re.findall(r"^  (\S.+)$", printed, re.MULTILINE)
        yield Kept(process=process, commands=commands, folder=folder, printed="".join(lines))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def shell(command: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """In another terminal, whose PATH knows nothing of ours."""
    return subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder.parent,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(folder.parent)},
    )


def test_what_keep_prints_works_and_one_flipped_byte_is_found(kept: Kept) -> None:
    """Five commands for another terminal; Ctrl-C ends every process and removes nothing; then the journal is tampered with."""
    call, reviews, show, approve, verify = kept.commands
    assert '"code":"review_pending"' in (held := shell(call, kept.folder)).stdout, held
    assert shell(reviews, kept.folder).stdout.count("get_price") == 2
    assert "will run    get_price" in shell(show, kept.folder).stdout
    assert " is approved, by " in shell(approve, kept.folder).stdout
    assert shell(verify, kept.folder).stdout.startswith("ok: ")

    os.killpg(kept.process.pid, signal.SIGINT)
    assert kept.process.wait(30) == 0
    assert kept.process.stdout is not None
    assert "Traceback" not in kept.process.stdout.read()
    with pytest.raises(ProcessLookupError):
        os.killpg(kept.process.pid, 0)
    assert shell(verify, kept.folder).stdout.startswith("ok: ")

    (segment,) = (kept.folder / "state" / "journal").glob("*.jsonl")
    content = bytearray(segment.read_bytes())
    offset = content.index(b"get_supplier_terms")
    content[offset] ^= 1
    segment.write_bytes(content)
    line = content.count(b"\n", 0, offset) + 1
    begins = content.rfind(b"\n", 0, offset) + 1
    found = shell(verify, kept.folder)
    assert found.returncode == 1
    assert found.stdout.startswith(f"FAILED: {segment}, line {line}, byte offset {begins}: ")
    shutil.rmtree(kept.folder)


@pytest.mark.parametrize("kept", ["--jaeger"], indirect=True)
def test_jaeger_tells_the_story_under_the_links_that_are_printed(kept: Kept) -> None:
    """The UI's link (a placeholder in a Jaeger from Go's module proxy, which is said), the trace of the held call, and one
    search that finds the call that was held and the one that ran; the story that the journal has; Ctrl-C ends Jaeger, too."""
    links = dict(re.findall(r"^     (UI|API|both) +(http://\S+)$", kept.printed, re.MULTILINE))
    assert "built without its UI" in kept.printed
    assert "not the Jaeger UI" in fetched(links["UI"])
    held = json.loads(fetched(links["API"]))["result"]["resourceSpans"]
    names = {span["name"] for resource in held for scope in resource["scopeSpans"] for span in scope["spans"]}
    assert {"execute_tool get_price", "decide", "review requested", "review resolved"} <= names
    traces = json.loads(fetched(links["both"]))["data"]
    called = [{span["operationName"] for span in trace["spans"]} for trace in traces]
    assert sorted("tools/call get_price" in names for names in called) == [False, True]
    assert f"http://127.0.0.1:{review_port(kept)}/v1/reviews/" in fetched(links["UI"])
    link = urlsplit(links["API"])
    jaeger = Jaeger(folder=kept.folder, ports={"JAEGER_QUERY_PORT": link.port or 0})
    the_held_call_is_told(jaeger, link.path.rpartition("/")[2], list(read(kept.folder / "state" / "journal")))

    os.killpg(kept.process.pid, signal.SIGINT)
    assert kept.process.wait(30) == 0
    with pytest.raises(ProcessLookupError):
        os.killpg(kept.process.pid, 0)
    shutil.rmtree(kept.folder)


def the_held_call_is_told(jaeger: Jaeger, trace: str, records: Sequence[Mapping[str, Any]]) -> None:
    """Found by one tag each; who asked, what was decided, by which rule and revision, how long the person took, what the
    upstream did: as the journal of the demo has it."""
    (held,) = [record for record in records if record["kind"] == "terminal" and record["trace"] == trace]
    of_call = {"sidegate.decision_id": held["call"], "gen_ai.tool.call.id": held["tool_call"]}
    of_talk = {"gen_ai.tool.name": "get_price", "gen_ai.conversation.id": held["conversation"]}
    for tag, value in {**of_call, **of_talk, "sidegate.decision": "review"}.items():
        assert trace in jaeger.search("sidegate", {tag: value}), tag
    spans = {span.name: span for span in jaeger.trace(trace)}
    server, answered = spans["execute_tool get_price"].attributes, spans["review resolved"].attributes
    assert (server["sidegate.principal"], server["sidegate.code"]) == (held["principal"]["id"], "review_pending")
    assert (server["security_rule.ruleset.name"], server["security_rule.name"]) == ("combination", "sourcing_triangle")
    assert server["security_rule.version"] == held["decision"]["policy"]
    assert server["sidegate.revision"] == held["revision"]
    review = held["review"]
    (asked,) = [r for r in records if r["kind"] == "review_requested" and r["review"]["id"] == review]
    (said,) = [r for r in records if r["kind"] == "review_resolved" and r["review"] == review and r["by"]]
    took = datetime.fromisoformat(said["resolved_at"]) - datetime.fromisoformat(asked["review"]["requested_at"])
    assert answered["sidegate.review.seconds"] == pytest.approx(took.total_seconds(), abs=0.002)
    assert (answered["sidegate.review.status"], answered["sidegate.review.by"]) == ("approved", said["by"])
    (ran,) = jaeger.search("sidegate", {"sidegate.review_id": review}) - {trace}
    (sent,) = [span for span in jaeger.trace(ran) if span.name == "tools/call get_price"]
    assert (sent.kind, sent.attributes["http.response.status_code"], sent.error) == ("client", 200, False)


def fetched(url: str) -> str:
    """What a browser without a proxy gets."""
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10) as answer:
        return str(answer.read().decode())


def review_port(kept: Kept) -> str:
    """Of this demo."""
    settings = yaml.safe_load((kept.folder / "sidegate.yaml").read_text())
    return str(settings["review_port"]).rpartition(":")[2]


def test_without_jaeger_it_says_how_to_get_it(short: Path) -> None:
    """Neither on PATH nor in the tools' cache: exit code 64, nothing started, nothing left."""
    words = [sys.executable, "-m", "proxy.cli", "demo", "--jaeger"]
    variables = environment(short) | {"PATH": "/usr/bin:/bin", "SIDEGATE_CACHE": str(short / "none")}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=variables)
    assert (done.returncode, done.stdout) == (64, "")
    assert "`bash deploy/tools.sh jaeger`" in done.stderr
    assert list(short.iterdir()) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("policy.yaml", "system:pricing", "system:desktop", "get_price is refused or held"),
        ("catalog/procurement.yaml", "effect: read", "effect: reed", "sidegate did not start"),
    ],
    ids=["nothing is held", "a broken catalog"],
)
def test_a_step_with_another_outcome_fails_the_demo(file: str, old: str, new: str, said: str, short: Path) -> None:
    """Exit code 1, what went wrong, and a folder with the logs that stays."""
    shutil.copytree(REPO / "deploy" / "demo", short / "demo")
    path = short / "demo" / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    done = run(sys.executable, short / "demo" / "story.py", folder=short)
    assert done.returncode == 1, done.stdout
    assert f"NOT as it should be: {'' if 'start' in said else 'this did not happen: '}{said}" in done.stderr
    assert "Traceback" not in done.stderr
    (folder,) = short.glob("sidegate-demo-*")
    assert str(folder) in done.stderr
    assert (folder / "sidegate.log").exists()
