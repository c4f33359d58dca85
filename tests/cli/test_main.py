"""The command line as a whole: help, wrong usage, exit codes, `--json`."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy import __version__
from proxy.cli.common import Parser
from proxy.cli.main import build_parser
from tests.cli.command import harmless, inside, sidegate

WITHOUT_JSON = {("serve",), ("demo",)}  # the log is JSON lines already; the demo is for people


def leaves(parser: argparse.ArgumentParser, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every subcommand that does something, as words."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        yield path
    for group in groups:
        for word, below in group.choices.items():
            yield from leaves(below, (*path, word))


COMMANDS = sorted(leaves(build_parser()))


def test_the_commands_are_those_that_the_design_names() -> None:
    """A new one belongs into README and into this list."""
    assert [" ".join(words) for words in COMMANDS] == [
        *("audit find", "audit show", "audit verify", "check", "demo", "init", "policy build", "policy can"),
        *(
            "policy explain",
            "policy history",
            "policy install",
            "policy replay",
            "policy rollback",
            "policy test",
            "resume",
        ),
        *("review approve", "review list", "review reject", "review show", "serve", "stop"),
    ]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_says_what_a_command_does_and_what_each_option_means(words: tuple[str, ...]) -> None:
    """Exit code 0, a sentence beyond the usage line, and a help text for each option."""
    done = inside(*words, "--help")
    assert done.code == 0
    assert done.out.startswith(f"usage: sidegate {' '.join(words)}")
    usage, *rest = done.out.split("\n\n")
    assert any(not part.startswith(("positional arguments", "options")) for part in rest), "no description"
    assert ("--json" in usage) is (words not in WITHOUT_JSON)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_wrong_usage_is_64_and_names_the_command(words: tuple[str, ...]) -> None:
    """An unknown option is never taken for another one."""
    done = inside(*words, "--no-such-option")
    assert done.code == 64
    assert done.out == ""
    assert "usage: sidegate" in done.err


def test_no_command_is_wrong_usage() -> None:
    done = sidegate()
    assert (done.code, done.out) == (64, "")
    assert "COMMAND" in done.err


def test_the_whole_help_tells_every_command_the_exit_codes_and_where_to_begin() -> None:
    done = sidegate("--help")
    assert done.code == 0
    for word in (
        "serve",
        "demo",
        "init",
        "check",
        "policy",
        "review",
        "stop",
        "resume",
        "audit",
        "64",
        "69",
        "sidegate init",
    ):
        assert word in done.out
    assert sidegate("--version").out == f"sidegate {__version__}\n"


def test_options_are_written_out(tmp_path: Path) -> None:
    """`--token SECRET` is no abbreviation of `--token-file`, which would print the secret as a file that is not there."""
    done = inside("review", "list", "--token", "s3cret")
    assert done.code == 64
    assert "s3cret: " not in done.err


def test_a_failure_is_json_on_standard_output_and_a_sentence_on_standard_error(tmp_path: Path) -> None:
    """A script that reads JSON gets JSON; the person at the terminal gets the sentence."""
    done = inside("check", "--settings", tmp_path / "none.yaml", "--json")
    assert done.code == 64
    assert json.loads(done.out)["ok"] is False
    assert json.loads(done.out)["problems"] == [done.err.removeprefix("sidegate: ").strip()]


def test_what_the_caller_wrote_comes_back_harmless() -> None:
    """Also a wrong argument is shown, not obeyed."""
    done = inside("review", "list", "--status", "a\x1b[31m")
    assert done.code == 64
    assert harmless(done.err)


def test_the_parser_refuses_abbreviations_by_itself() -> None:
    parser = Parser(prog="x")
    parser.add_argument("--token-file")
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(["--token", "y"])
    assert ended.value.code == 64


@pytest.mark.parametrize(
    "words", [words for words in COMMANDS if words[0] in {"check", "policy", "serve"}], ids=" ".join
)
def test_settings_that_cannot_be_read_are_wrong_usage_in_every_command(words: tuple[str, ...], tmp_path: Path) -> None:
    """An init container ends with it: 64 and the sentence, no traceback."""
    (tmp_path / "sidegate.yaml").write_text("statex: 1\n")
    if words not in {("policy", "can"), ("policy", "explain"), ("policy", "replay")}:  # these want more words first
        done = inside(*words, "--settings", str(tmp_path / "sidegate.yaml"))
        assert done.code == 64
        assert "did you mean 'state'" in done.all
