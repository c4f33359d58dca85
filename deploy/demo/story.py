"""The demo: a buyer's agent, three business systems, a policy, a reviewer. Exit code 0 only if every step went as it should.

Run by `sidegate demo`. Everything is real but the model, which is scripted, and lives in one temporary folder.
"""

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import requests
import world as worlds
from agent import Agent
from aiohttp import web
from collector import Collector
from model import Step
from model import application as model_application

STEPS = (
    Step(
        asks="How many SKU-17 are there?", says="I look at the stock.", tool="get_stock", arguments='{"sku": "SKU-17"}'
    ),
    Step(
        asks="What are our terms with SUP-4?",
        says="I read the terms.",
        tool="get_supplier_terms",
        arguments='{"supplier_id": "SUP-4"}',
        sdk="anthropic",
    ),
    Step(
        asks="And our own floor price?", says="I need the price list.", tool="get_price", arguments='{"sku": "SKU-17"}'
    ),
    Step(asks="And once more, please.", says="Once more.", tool="get_price", arguments='{"sku": "SKU-17"}'),
    Step(
        asks="Order 5000 from SUP-4.",
        says="I order.",
        tool="create_order",
        arguments='{"supplier_id": "SUP-4", "sku": "SKU-17", "quantity": 5000}',
        sdk="anthropic",
    ),
    Step(asks="Send them a fax.", says="I send a fax.", tool="send_fax", arguments='{"to": "SUP-4"}'),
    Step(asks="Stock of SKU-18?", says="I look.", tool="get_stock", arguments='{"skuu": "SKU-18"}'),
    Step(
        asks="Can SUP-9 deliver?",
        says="I ask for the capacity.",
        tool="get_supplier_capacity",
        arguments='{"vendor": "SUP-9"}',
        sdk="anthropic",
    ),
    Step(
        asks="Is SUP-9 any good?",
        says="I look up the rating.",
        tool="get_supplier_rating",
        arguments='{"supplier_id": "SUP-9"}',
    ),
    Step(asks="Count warehouse W1.", says="I start a count.", tool="start_stocktake", arguments='{"warehouse": "W1"}'),
    Step(
        asks="How many boxes are 96 pieces?",
        says="I convert.",
        tool="convert_units",
        arguments='{"quantity": 96, "unit": "box"}',
        sdk="anthropic",
    ),
    Step(asks="Stock of SKU-20?", says="I look.", tool="get_stock", arguments='{"sku": "SKU-20"}'),
    Step(asks="And now?", says="I look again.", tool="get_stock", arguments='{"sku": "SKU-20"}'),
)


class Unexpected(SystemExit):
    """A step had another outcome than it should."""


class Story:
    """One run. Each step prints what the model sees, and is checked."""

    def __init__(self, world: worlds.World, collector: Collector) -> None:
        self.world = world
        self.collector = collector
        self.session = requests.Session()
        self.session.trust_env = False
        self.agent = Agent(world.url("model"), self.session, world.url("agent"))
        self.began = time.monotonic()
        self.conversation = "buying-bearings"
        self.held: dict[str, Any] = {}

    def play(self) -> None:
        """The whole story."""
        self.register()
        self.reads_meet()
        self.reviewer_says_yes()
        self.refusals_teach()
        self.agent_runs_one_itself()
        self.operator_stops_and_resumes()
        self.record()

    def register(self) -> None:
        self.chapter("The application registers the buyer's conversation")
        self.converse(self.conversation)

    def converse(self, conversation: str) -> None:
        """Register a conversation; from here on the agent brings its handle."""
        answer = requests.put(
            f"{self.world.url('agent')}/v1/conversations/{conversation}",
            headers={"authorization": f"Bearer {self.world.tokens['buyer']}"},
            json={"text": "Find out whether we can get a better price for SKU-17."},
            timeout=10,
        )
        self.expect(answer.status_code == 200, answer.text)
        self.session.headers["x-sidegate-conversation"] = answer.json()["handle"]
        print(f"   conversation {conversation}, {answer.json()['registration']}, handle given to the agent")

    def reads_meet(self) -> None:
        self.chapter("Three reads that may not meet: inventory, suppliers, pricing")
        self.expect("on_hand" in self.turn(0), "stock is read")
        self.expect("discount" in self.turn(1), "terms are read")
        self.held = json.loads(self.turn(2))["refused"]
        self.expect(self.held["code"] == "review_pending", "the price list is held")

    def reviewer_says_yes(self) -> None:
        self.chapter("A reviewer looks and says yes")
        listed = json.loads(self.command("review", "list", "--json"))
        self.expect([r["id"] for r in listed] == [self.held["review"]], "one call is held")
        shown = json.loads(self.command("review", "show", self.held["review"], "--json"))
        earlier = [call["system"] for call in shown["earlier_calls"]]
        self.expect(earlier == ["inventory", "suppliers"], "the two earlier calls are shown")
        print(self.command("review", "show", self.held["review"]))
        print(self.command("review", "approve", self.held["review"], "--digest", shown["digest"], "--comment", "once"))
        resumed = self.session.post(
            f"{self.world.url('agent')}/v1/tool-calls/{self.held['call_id']}/resume", timeout=10
        )
        self.expect("floor_price" in resumed.text, f"resume runs it: {resumed.text}")
        print(f"   resumed    {resumed.json()['content'][:110]}")
        again = self.session.post(f"{self.world.url('agent')}/v1/tool-calls/{self.held['call_id']}/resume", timeout=10)
        self.expect(again.status_code == 409, "a second resume runs nothing")
        print(f"   resumed 2x {again.json()['refusal']['message']}")
        anew = json.loads(self.turn(3))["refused"]
        self.expect(anew["code"] == "review_pending" and anew["review"] != self.held["review"], "it is held anew")

    def refusals_teach(self) -> None:
        self.chapter("Another conversation: refusals that teach")
        self.converse("checking-suppliers")
        over = json.loads(self.turn(4))["refused"]
        self.expect(over["code"] == "denied" and "100" in over["message"], "the bound is named")
        self.expect(json.loads(self.turn(5))["refused"]["code"] == "unknown_tool", "no such tool")
        misspelt = json.loads(self.turn(6))["refused"]
        self.expect(misspelt["code"] == "invalid_arguments" and "skuu" in misspelt["message"], "the argument is named")
        self.expect("weekly_capacity" in self.turn(7), "version 1 is upgraded to 2")
        failed = json.loads(self.turn(8))["refused"]
        self.expect(failed["code"] == "tool_failed" and failed["ran"] == "yes", "a 200 that failed inside")
        slow = json.loads(self.turn(9))["refused"]
        self.expect(slow["code"] == "tool_timeout", "too slow")

    def agent_runs_one_itself(self) -> None:
        self.chapter("A tool that the agent runs itself")
        allowed = json.loads(self.turn(10))["allowed"]
        reported = self.session.post(
            f"{self.world.url('agent')}/v1/tool-calls/{allowed['call_id']}/result",
            json={"handle": allowed["result_handle"], "result": {"boxes": 8}},
            timeout=10,
        )
        self.expect("boxes" in reported.text, f"the result is taken: {reported.text}")
        print(f"   reported   {reported.text[:110]}")

    def operator_stops_and_resumes(self) -> None:
        self.chapter("An operator throws a stop switch and lifts it")
        print(self.command("stop", "tool", "get_stock"))
        self.expect(json.loads(self.turn(11))["refused"]["code"] == "stopped", "stopped")
        print(self.command("resume", "tool", "get_stock"))
        self.expect("on_hand" in self.turn(12), "running again")

    def record(self) -> None:
        self.chapter("What the audit says")
        journal = str(self.world.folder / "state" / "journal")
        print(self.world.sidegate("audit", "show", self.conversation, "--dir", journal).stdout)
        verdict = self.world.sidegate("audit", "verify", "--dir", journal)
        print(verdict.stdout)
        self.expect(verdict.returncode == 0, f"the audit verifies: {verdict.stdout}{verdict.stderr}")
        self.chapter("The held call as a trace")
        lines = self.spans(self.held["trace_id"])
        print("\n".join(f"   {line}" for line in lines))
        self.expect(any("execute_tool get_price" in line for line in lines), "the held call has a trace")

    def spans(self, trace_id: str) -> list[str]:
        end = time.monotonic() + 10
        while time.monotonic() < end and not any("decide" in line for line in self.collector.tree(trace_id)):
            time.sleep(0.1)
        time.sleep(0.3)
        return self.collector.tree(trace_id)

    def turn(self, number: int) -> str:
        """One user turn; returns the text that the model reads as its tool's result."""
        step = STEPS[number]
        ask = self.agent.ask_openai if step.sdk == "openai" else self.agent.ask_anthropic
        print(f"   user       {step.asks}")
        print(f"   model      {step.tool}({step.arguments})  [{step.sdk} SDK]")
        text = str(ask(f"[{number}] {step.asks}")["content"])
        print(f"   tool says  {text}\n")
        return text

    def command(self, *arguments: str) -> str:
        """A `sidegate` command of the reviewer's."""
        if arguments[-1] != "--json":
            print(f"   $ sidegate {' '.join(arguments)}")
        done = self.world.sidegate(
            *arguments, "--url", self.world.url("review"), "--token-file", str(self.world.folder / "reviewer.token")
        )
        self.expect(done.returncode == 0, f"sidegate {' '.join(arguments)}: {done.stderr}")
        return (
            "\n".join(f"     {line}" for line in done.stdout.splitlines()) if arguments[-1] != "--json" else done.stdout
        )

    def chapter(self, title: str) -> None:
        print(f"\n== {time.monotonic() - self.began:5.1f}s  {title}", flush=True)

    def expect(self, as_it_should: bool, what: str) -> None:
        if not as_it_should:
            raise Unexpected(f"NOT as it should be: {what}\nlogs: {self.world.folder}")


def serve_in_thread(*applications: tuple[web.Application, int]) -> None:
    """The model endpoint and the collector, on loopback, in this process."""

    async def run() -> None:
        for application, port in applications:
            runner = web.AppRunner(application, access_log=None)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", port).start()
        ready.set()
        await asyncio.Event().wait()

    ready = threading.Event()
    threading.Thread(target=lambda: asyncio.run(run()), daemon=True).start()
    ready.wait(10)


def main() -> int:
    parser = argparse.ArgumentParser(prog="sidegate demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave it running and print commands to try by hand")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="sidegate-demo-"))
    world = worlds.make(folder)
    collector = Collector()
    finished = False
    try:
        serve_in_thread(
            (model_application(STEPS), world.ports["model"]), (collector.application(), world.ports["collector"])
        )
        worlds.start(world)
        Story(world, collector).play()
        finished = True
        print(f"\nEvery step went as it should. Everything of this run is in {folder}")
        if args.keep:
            keep(world)
    finally:
        world.stop()
        if finished and not args.keep:
            shutil.rmtree(folder)
    return 0


def keep(world: worlds.World) -> None:
    """Leave it running until a key is pressed."""
    call = json.dumps({"id": "by-hand", "tool": "get_stock", "arguments": {"sku": "SKU-3"}})
    print(
        f"""
It is still running. Try:

  curl -s {world.url("agent")}/v1/tool-calls -H 'content-type: application/json' -d '{call}'
  sidegate review list --url {world.url("review")} --token-file {world.folder}/reviewer.token
  sidegate audit verify --dir {world.folder}/state/journal

Ctrl-C ends it.""",
        flush=True,
    )
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    sys.exit(main())
