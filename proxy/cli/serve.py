"""`sidegate serve`: run the sidecar."""

import argparse
import asyncio
import gc
import logging
import resource
import sys
from collections.abc import Coroutine
from typing import Any

from proxy.cli.common import OK, UNREACHABLE, USAGE, Failure, read_settings, settings_argument
from proxy.settings import SettingsError

_DESCRIPTORS = 65_536


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "serve",
        help="run the sidecar until SIGTERM",
        description="Run the sidecar, with its OPA, until SIGTERM or Ctrl-C; calls under way are finished first.\n"
        "Ports, files and limits stand in the settings; the log (JSON lines) goes to standard error.\n"
        "It is ready when /healthz/ready on the probe port answers 200.",
    )
    settings_argument(parser)
    parser.add_argument(
        "--desk",
        action="store_true",
        help="no sidecar: only list and answer the held calls of all pods on a shared store",
    )
    parser.add_argument(
        "--log-level", default="info", choices=("debug", "info", "warning", "error"), help="default: info"
    )
    parser.set_defaults(handler=_serve)


def _serve(args: argparse.Namespace) -> int:
    """All that it says is log lines, also why it did not start: who collects logs reads nothing else."""
    try:
        return _served(args)
    except Failure as failure:
        for problem in failure.problems:
            logging.getLogger("sidegate").error("not started: %s", problem)  # noqa: TRY400 - a sentence, not a fault
        return failure.exit_code


def _served(args: argparse.Namespace) -> int:
    gc.disable()  # nothing that a start makes is garbage; measured, 50 ms. `app.serve` turns it on
    from proxy import app, desk
    from proxy.adapters.bundle import BundleError
    from proxy.adapters.journal import JournalError
    from proxy.adapters.opa_process import OpaStartError
    from proxy.adapters.state_directory import UnusableError
    from proxy.adapters.watched_file import UnusableFileError
    from proxy.adapters.yaml_file import YamlError
    from proxy.core.catalog import CatalogError
    from proxy.errors import Refusal
    from proxy.telemetry import logs

    logs.configure(args.log_level.upper(), sys.stderr)
    _more_descriptors()
    try:
        settings = read_settings(args)
        _run(desk.serve_desk(settings) if args.desk else app.serve(settings))
    except (SettingsError, YamlError, CatalogError, BundleError) as e:
        raise Failure(*e.problems, exit_code=USAGE) from None
    except (TimeoutError, Refusal) as e:
        raise Failure(f"OPA does not serve the policy: {e}", exit_code=UNREACHABLE) from None
    except (UnusableError, JournalError, OpaStartError, UnusableFileError, ValueError) as e:
        raise Failure(str(e), exit_code=USAGE) from None
    return OK


def _more_descriptors() -> None:
    """A held call keeps its connection open: use what the system lets a process have, where the usual 1,024 are not enough."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _run(work: Coroutine[Any, Any, None]) -> None:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)
