"""The client of the review port: where the token goes, and what is said when there is no answer."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from proxy.cli.review_client import REVIEW_URL, address, read, rendered
from tests.cli.command import Done, harmless, inside
from tests.contracts.threaded_server import threaded
from tests.e2e.rig import free_ports

TOKEN = "s3cret-token-of-a-reviewer"


@dataclass(slots=True)
class Answering:
    """An HTTP server that gives one answer to everything; the headers of the requests that came."""

    status: int = 200
    body: bytes = b"[]"
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[dict[str, str]] = field(default_factory=list)
    url: str = ""


@contextlib.contextmanager
def serving(answer: Answering) -> Iterator[Answering]:
    def answered(request: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], bytes]:
        answer.asked.append({name.lower(): value for name, value in request.headers.items()})
        return answer.status, answer.headers, answer.body

    with threaded(answered) as answer.url:
        yield answer


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "reviewer.token"
    path.write_text(f"{TOKEN}\n")
    return path


def listed(url: str, token: Path) -> Done:
    return inside("review", "list", "--url", url, "--token-file", token)


def test_nobody_there_is_69_with_the_address(token: Path) -> None:
    (port,) = free_ports(1)
    done = listed(f"http://127.0.0.1:{port}", token)
    assert (done.code, done.out) == (69, "")
    assert f"http://127.0.0.1:{port} does not answer" in done.err


def test_the_token_is_sent_as_a_bearer_token_and_never_on_to_another_place(token: Path) -> None:
    """A redirect is not followed."""
    with serving(Answering()) as other, serving(Answering(status=302, headers={"Location": other.url})) as first:
        done = listed(first.url, token)
    assert done.code == 1
    assert first.asked[0]["authorization"] == f"Bearer {TOKEN}"
    assert other.asked == []


@pytest.mark.parametrize("body", [b"<html>", b"", b"{", b"\xff"])
def test_something_else_that_answers_is_69(body: bytes, token: Path) -> None:
    with serving(Answering(body=body)) as other:
        done = listed(other.url, token)
    assert done.code == 69
    assert "no review port" in done.err


@pytest.mark.parametrize("body", [b"no json", b"[]", b'{"refusal": 3}', b'{"refusal": {"code": "x"}}'])
def test_an_error_that_is_no_refusal_says_its_status(body: bytes, token: Path) -> None:
    with serving(Answering(status=500, body=body)) as other:
        done = listed(other.url, token)
    assert done.code == 1
    assert "answered 500" in done.err


def refusing(status: int, **refusal: str) -> Answering:
    return Answering(
        status=status, body=json.dumps({"refusal": {"code": "x", "message": "m", "fix": "f"} | refusal}).encode()
    )


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            refusing(401, code="unauthenticated"),
            "unauthenticated: m (this port takes reviewers' tokens (reviewers.yaml))",
        ),
        (refusing(401, code="unauthenticated", retry="later"), "unauthenticated: m (f)"),
        (refusing(404, code="invalid_call"), "invalid_call: m (is this the review port?)"),
        (refusing(400, code="invalid_call"), "invalid_call: m (f)"),
        (refusing(404, code="unknown_call"), "unknown_call: m (f)"),
        (Answering(status=404, body=b"404: Not Found"), "the review port answered 404 (is this the review port?)"),
    ],
)
def test_a_token_or_a_port_of_the_other_side_is_told(answer: Answering, said: str, token: Path) -> None:
    """What the sidecar would tell an agent leads a reviewer astray; other advice stays."""
    with serving(answer):
        done = listed(answer.url, token)
    assert (done.code, done.err) == (1, f"sidegate: {said}\n")


def test_a_refusal_is_shown_and_not_obeyed(token: Path) -> None:
    body = b'{"refusal": {"code": "denied", "message": "\\u001b[31mred\\n", "fix": "\\u202ex"}}'
    with serving(Answering(status=403, body=body)) as other:
        done = listed(other.url, token)
    assert done.code == 1
    assert harmless(done.err)
    assert "denied" in done.err


@pytest.mark.parametrize(
    "url", ["", "here", "file:///etc/passwd", "http://", "http://a b", "ftp://x", "http://x:y", "http://x\x1b[2J"]
)
def test_an_address_that_is_none_is_64(url: str, token: Path) -> None:
    done = listed(url, token)
    assert done.code == 64
    assert "--url" in done.err
    assert harmless(done.err)


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"a\nb", b"\xff\xfe", "tök".encode(), b"a\x00b"])
def test_a_file_without_a_token_is_64_and_its_content_is_not_shown(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    done = listed("http://127.0.0.1:9", path)
    assert done.code == 64
    assert done.err == f"sidegate: {path}: holds no token (one line, no spaces)\n"
    assert listed("http://127.0.0.1:9", tmp_path / "none").code == 64


def test_no_failure_prints_the_token(token: Path) -> None:
    (port,) = free_ports(1)
    for url in (f"http://127.0.0.1:{port}", "here"):
        assert TOKEN not in listed(url, token).all


def test_numbers_stay_as_they_were_written() -> None:
    """What a reviewer sees is what will be sent: no number is rounded on the way to the terminal."""
    text = '{"a":1.10,"b":18446744073709551617,"c":9007199254740993.0,"d":1e400,"e":-3}'
    assert rendered(read(text.encode())) == text


@pytest.mark.parametrize(
    ("port", "wanted"),
    [
        ('"127.0.0.1:7000"', "http://127.0.0.1:7000"),
        ('"[::1]:7000"', "http://[::1]:7000"),
        ('{listen: "10.0.0.1:7000", tls: {certificate: c, key: k}}', "https://10.0.0.1:7000"),
        ('{listen: "0.0.0.0:7000", tls: {certificate: c, key: k}}', "https://127.0.0.1:7000"),
        ("nonsense", REVIEW_URL),
    ],
)
def test_the_port_is_that_of_the_settings_in_this_directory(port: str, wanted: str, tmp_path: Path) -> None:
    """So that a changed port need not be repeated; settings that cannot be read leave the usual one."""
    (tmp_path / "sidegate.yaml").write_text(f"state: s\ncatalog: c\npolicy: p\nreview_port: {port}\n")
    with contextlib.chdir(tmp_path):
        assert address() == wanted


def test_without_settings_it_is_the_usual_port(tmp_path: Path) -> None:
    with contextlib.chdir(tmp_path):
        assert address() == REVIEW_URL
