"""The demo: a buyer's agent, three business systems, a policy, a reviewer. Exit code 0 only if every step went as it should.

Run by `sidegate demo`. Everything is real but the model, which is scripted, and lives in one temporary folder.
"""

import asyncio
import json
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

import jaeger
import requests
import world as worlds
from agent import Agent
from aiohttp import web
from collector import Collector, tree
from keep import keep as keep_running
from model import application as model_application
from page import Page
from steps import STEPS


class UnexpectedError(Exception):
    """A step had another outcome than it should."""


class Story:
    """One run. Each step prints what the model sees, and is checked."""

    def __init__(self, world: worlds.World, collector: Collector | jaeger.Jaeger, page: Page, *, stays: bool) -> None:
        self.world = world
        self.stays = stays
        self.collector = collector
        self.page = page
        self.session = requests.Session()
        self.session.trust_env = False
        self.agent = Agent(world.url("model"), self.session, world.url("agent"))
        self.held: dict[str, Any] = {}
        self.resumed_trace = ""

    def play(self) -> None:
        """The whole story."""
        self.register()
        self.reads_meet()
        self.reviewer_says_yes()
        self.refusals_teach()
        self.agent_runs_one_itself()
        self.operator_stops_and_resumes()
        self.audit()
        self.traces()

    def register(self) -> None:
        self.page.chapter("The application registers the buyer's conversation")
        self.converse("buying-bearings")

    def converse(self, conversation: str) -> None:
        """Register a conversation; from here on the agent brings its handle."""
        answer = requests.put(
            f"{self.world.url('agent')}/v1/conversations/{conversation}",
            headers={"authorization": f"Bearer {self.world.tokens['buyer']}"},
            json={"text": "Find out whether we can get a better price for SKU-17."},
            timeout=10,
        )
        if answer.status_code != 200:
            raise UnexpectedError(f"the conversation cannot be registered: {answer.text}")
        handle = answer.json()["handle"]
        self.session.headers["x-sidegate-conversation"] = handle
        worlds.private(self.world.folder / f"{conversation}.header", f"x-sidegate-conversation: {handle}\n")
        self.page.row(
            "app", f"PUT /v1/conversations/{conversation} with the buyer's token; the agent gets the handle only"
        )

    def reads_meet(self) -> None:
        self.page.chapter("Three reads that may not meet: inventory, suppliers, pricing")
        self.expect("on_hand" in self.turn(0), "stock is read")
        self.expect("discount" in self.turn(1), "terms are read")
        self.held = self.refused(2)
        self.expect(
            self.held["code"] == "review_pending", "the price list is held for a person; nothing was sent to it"
        )

    def reviewer_says_yes(self) -> None:
        self.page.chapter("A reviewer, with a token of their own, looks and says yes")
        listed = json.loads(self.reviewer("review", "list", "--json", quiet=True))
        self.reviewer("review", "list")
        shown = json.loads(self.reviewer("review", "show", self.held["review"], "--json", quiet=True))
        self.reviewer("review", "show", self.held["review"])
        earlier = [call["system"] for call in shown["earlier_calls"]]
        as_held = [r["id"] for r in listed] == [self.held["review"]] and earlier == ["inventory", "suppliers"]
        self.expect(as_held, "exactly this call is held, and the two calls that led here are shown")
        self.reviewer("review", "approve", self.held["review"], "--digest", shown["digest"], "--comment", "once")
        resumed = self.resume()
        self.resumed_trace = resumed.headers.get("traceparent", "00-").split("-")[1]
        self.page.row("model sees", resumed.json().get("content", resumed.text))
        self.expect("floor_price" in resumed.text, "the approved call runs, exactly as it was shown")
        again = self.resume()
        self.page.row("app", f"resume again: {again.json()['refusal']['message']}")
        self.expect(again.status_code == 409, "a second resume runs nothing")
        anew = self.refused(3)
        new = anew["code"] == "review_pending" and anew["review"] != self.held["review"]
        self.expect(new, "the same call again is held anew: one yes, one execution")

    def resume(self) -> requests.Response:
        path = f"/v1/tool-calls/{self.held['call_id']}/resume"
        self.page.row("app", f"POST {path}")
        return self.session.post(self.world.url("agent") + path, timeout=10)

    def refusals_teach(self) -> None:
        self.page.chapter("Another conversation: refusals that teach the model what to do")
        self.converse("checking-suppliers")
        over = self.refused(4)
        self.expect(over["code"] == "denied" and "100" in over["message"], "over the role's limit; the bound is named")
        self.expect(self.refused(5)["code"] == "unknown_tool", "a tool that does not exist")
        misspelt = self.refused(6)
        named = misspelt["code"] == "invalid_arguments" and "skuu" in misspelt["message"]
        self.expect(named, "a misspelt argument; the right one is proposed")
        self.expect("weekly_capacity" in self.turn(7), "an old version's argument (vendor) is upgraded to supplier_id")
        failed = self.refused(8)
        self.expect(failed["code"] == "tool_failed" and failed["ran"] == "yes", "HTTP 200 with a failure inside")
        slow = self.refused(9)
        self.expect(
            slow["code"] == "tool_timeout" and slow["ran"] == "unknown", "too slow; nobody claims it did not run"
        )

    def agent_runs_one_itself(self) -> None:
        self.page.chapter("A tool that the agent runs itself: decided here, its result reported back")
        allowed = json.loads(self.turn(10)).get("allowed", {})
        self.expect("result_handle" in allowed, "allowed; no tool of ours was called")
        path = f"/v1/tool-calls/{allowed['call_id']}/result"
        reported = self.session.post(
            self.world.url("agent") + path,
            json={"handle": allowed["result_handle"], "result": {"boxes": 8}},
            timeout=10,
        )
        self.page.row("agent", f'POST {path} {{"result": {{"boxes": 8}}, ...}}')
        self.page.row("model sees", reported.text)
        self.expect("boxes" in reported.text, "the reported result is checked, recorded, and given to the model")

    def operator_stops_and_resumes(self) -> None:
        self.page.chapter("An operator throws a stop switch and lifts it")
        self.reviewer("stop", "tool", "get_stock")
        self.expect(self.refused(11)["code"] == "stopped", "stopped at once")
        self.reviewer("resume", "tool", "get_stock")
        self.expect("on_hand" in self.turn(12), "running again")

    def audit(self) -> None:
        self.page.chapter("What the audit says of the first conversation")
        self.command("audit", "show", "buying-bearings", "--dir", "state/journal")
        verdict = self.command("audit", "verify", "--dir", "state/journal")
        self.expect(verdict.startswith("ok: "), "every record is chained to the one before it")

    def traces(self) -> None:
        self.page.chapter("The held call as a trace, and the trace of its resumption")
        held = self.spans(self.held["trace_id"], {"decide", "review requested", "review resolved"})
        self.expect(held, "the held call: decided, held, never sent; then the reviewer's yes")
        resumed = self.spans(self.resumed_trace, {"decide", "tools/call get_price"})
        self.expect(resumed, "the resumed call: decided again, and sent once")
        if isinstance(self.collector, jaeger.Jaeger):
            self.page.chapter("The held call in Jaeger" + ("" if self.stays else " (--keep lets it run on)"))
            self.page.block("links", *self.collector.links(self.held["trace_id"], self.held["review"]))

    def spans(self, trace_id: str, wanted: set[str]) -> bool:
        """Print the tree of a trace, once all wanted spans have come; whether they have."""
        end = time.monotonic() + 10
        found = self.collector.spans(trace_id)
        while time.monotonic() < end and not wanted <= {span.name for span in found}:
            time.sleep(0.05)
            found = self.collector.spans(trace_id)
        self.page.block(f"trace {trace_id}", *tree(found))
        return wanted <= {span.name for span in found}

    def turn(self, number: int) -> str:
        """One user turn; returns the text that the model reads as its tool's result."""
        step = STEPS[number]
        ask = self.agent.ask_openai if step.sdk == "openai" else self.agent.ask_anthropic
        self.page.row("user", step.asks)
        self.page.row("model calls", f"{step.tool}({step.arguments})   [{step.sdk} SDK]")
        text = str(ask(f"[{number}] {step.asks}")["content"])
        self.page.row("model sees", text)
        return text

    def refused(self, number: int) -> dict[str, Any]:
        """One user turn that has to end in a refusal."""
        refusal: dict[str, Any] = json.loads(self.turn(number)).get("refused", {})
        if not refusal:
            self.expect(False, f"{STEPS[number].tool} is refused or held")
        return refusal

    def reviewer(self, *arguments: str, quiet: bool = False) -> str:
        """A `sidegate` command of the reviewer's."""
        return self.command(
            *arguments, "--url", self.world.url("review"), "--token-file", "reviewer.token", quiet=quiet
        )

    def command(self, *arguments: str, quiet: bool = False) -> str:
        """A `sidegate` command, run in the demo's folder; what it printed."""
        done = self.world.sidegate(*arguments)
        if not quiet:
            self.page.block(f"$ sidegate {' '.join(arguments)}", *done.stdout.splitlines())
        if done.returncode:
            raise UnexpectedError(f"`sidegate {' '.join(arguments)}` ended with {done.returncode}: {done.stderr}")
        return done.stdout

    def expect(self, as_it_should: bool, what: str) -> None:
        if not as_it_should:
            raise UnexpectedError(f"this did not happen: {what}")
        self.page.right(what)


def serve_in_thread(*applications: tuple[web.Application, int]) -> None:
    """The model endpoint, and the collector where there is no Jaeger, on loopback, in this process."""

    async def run() -> None:
        for application, port in applications:
            runner = web.AppRunner(application, access_log=None)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", port).start()
        ready.set()
        await asyncio.Event().wait()

    ready = threading.Event()
    threading.Thread(target=lambda: asyncio.run(run()), daemon=True).start()
    if not ready.wait(10):
        raise worlds.StartError("the model endpoint did not start within 10 s")


def main(*, keep: bool = False, with_jaeger: bool = False) -> int:
    """Play it in a temporary folder, which stays if something went wrong or with `keep`. Returns the exit code: 64 without
    what it needs."""
    program = jaeger.binary() if with_jaeger else None
    if with_jaeger and program is None:
        print(f"there is no jaeger on PATH, nor in the cache of deploy/tools.sh: {jaeger.GET_IT}", file=sys.stderr)
        return 64
    signal.signal(signal.SIGTERM, _terminated)
    folder = Path(tempfile.mkdtemp(prefix="sidegate-demo-"))
    stays = True
    world = worlds.make(folder)
    try:
        play(world, program, keep=keep)
        if keep:
            keep_running(world)
        stays = keep
    except (UnexpectedError, worlds.StartError) as error:
        print(f"\nNOT as it should be: {error}\nEverything of this run, logs too, is in {folder}", file=sys.stderr)
        return 1
    finally:
        world.stop()
        if not stays:
            shutil.rmtree(folder)
    return 0


def play(world: worlds.World, program: Path | None, *, keep: bool) -> None:
    """Start everything, with Jaeger if that is the program, tell the story, say that all went well."""
    page = Page()
    watching = "a trace collector" if program is None else "Jaeger"
    page.chapter(f"Starting: three tool services, a model endpoint, {watching}, Sidegate with its OPA")
    served = [(model_application(STEPS), world.ports["model"])]
    collector: Collector | jaeger.Jaeger
    if program is not None:
        collector = jaeger.start(world, program)
    else:
        collector = Collector()
        served.append((collector.application(), world.ports["collector"]))
    serve_in_thread(*served)
    worlds.start(world)
    Story(world, collector, page, stays=keep).play()
    page.chapter(f"Every step went as it should ({page.checks} checks)")


def _terminated(*_: object) -> NoReturn:
    raise SystemExit(143)


if __name__ == "__main__":
    sys.exit(main(keep="--keep" in sys.argv[1:], with_jaeger="--jaeger" in sys.argv[1:]))
