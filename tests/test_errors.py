"""Codes and what they mean."""

import pytest

from proxy.errors import MEANINGS, Code, Ran, Refusal, Retry


def test_every_code_has_a_meaning_with_an_http_status_of_an_error() -> None:
    """A code without a row cannot be raised."""
    assert set(MEANINGS) == set(Code)
    assert all(400 <= meaning.status < 600 and meaning.says for meaning in MEANINGS.values())


def test_codes_are_snake_case_and_named_as_they_are_written() -> None:
    """They are API, audit field and metric label."""
    assert all(code.value == code.name.lower() and code.isascii() for code in Code)


def test_only_codes_of_what_happens_after_sending_say_that_a_tool_may_have_run() -> None:
    """Everything else is a refusal before anything was sent."""
    assert {code for code, meaning in MEANINGS.items() if meaning.ran is not Ran.NO} == {
        Code.TOOL_TIMEOUT,
        Code.TOOL_FAILED,
        Code.INVALID_RESULT,
        Code.OUTCOME_UNKNOWN,
        Code.RESULT_WITHHELD,
    }


def test_nothing_that_may_have_run_may_simply_be_repeated() -> None:
    """An order placed twice is the worst advice."""
    assert all(meaning.retry is Retry.NEVER for meaning in MEANINGS.values() if meaning.ran is not Ran.NO)


@pytest.mark.parametrize("code", list(Code))
def test_a_refusal_says_what_its_code_means_unless_told_otherwise(code: Code) -> None:
    """Status always; whether it ran and whether to retry can be known better."""
    plain, known = Refusal(code, "no"), Refusal(code, "no", ran=Ran.UNKNOWN, retry=Retry.ASK_AGAIN)
    meaning = MEANINGS[code]
    assert (plain.status, plain.ran, plain.retry) == (meaning.status, meaning.ran, meaning.retry)
    assert (known.status, known.ran, known.retry) == (meaning.status, Ran.UNKNOWN, Retry.ASK_AGAIN)


def test_the_text_of_a_refusal_holds_nothing_of_its_details() -> None:
    """Details are for the record and for reviewers; a traceback must not show them."""
    no = Refusal(Code.DENIED, "too much", fix="order less", details={"secret": "canary"})
    assert str(no) == "denied: too much"
    assert "canary" not in repr(no)
