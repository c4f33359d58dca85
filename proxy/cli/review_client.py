"""The client of the review port: where it is, with which token it is asked, and what is said when it does not answer."""

import argparse
import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from proxy import settings
from proxy.adapters.yaml_file import YamlError
from proxy.cli.common import UNREACHABLE, USAGE, Failure, json_argument
from proxy.errors import Code, Retry

SETTINGS = "sidegate.yaml"
REVIEW_URL = "http://127.0.0.1:8902"
TIMEOUT = 30  # seconds
_NO_ROUTE = 404
_ELSEWHERE = "is this the review port?"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The token goes where the operator sent it and nowhere else."""

    def redirect_request(self, *_: Any) -> None:
        return None


def review_port_arguments(parser: argparse.ArgumentParser) -> None:
    """`--url`, `--token-file` and `--json`."""
    parser.add_argument(
        "--url",
        help=f"the review port (default: that of ./{SETTINGS}, else {REVIEW_URL}); SSL_CERT_FILE names a CA of your own",
    )
    parser.add_argument(
        "--token-file",
        type=Path,
        required=True,
        metavar="FILE",
        help="file with the reviewer's token (never on the command line)",
    )
    json_argument(parser)


def ask(args: argparse.Namespace, method: str, path: str, body: Mapping[str, Any] | None = None) -> bytes:
    """One request to the review port; the JSON that it answered, as it came.

    Raises Failure: 1 with the refusal's sentence, 64 for a URL or token file that is none, 69 if the port is not there.
    """
    url = address() if args.url is None else args.url
    request = _request(url, args.token_file, method, path, body)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())
    try:
        with opener.open(request, timeout=TIMEOUT) as response:
            answer: bytes = response.read()
    except urllib.error.HTTPError as error:
        raise Failure(_refusal(error)) from None
    except (OSError, http.client.HTTPException) as error:
        why = getattr(error, "reason", error) or type(error).__name__
        raise Failure(f"the review port {url} does not answer: {why}", exit_code=UNREACHABLE) from None
    try:
        json.loads(answer)
    except ValueError:
        raise Failure(f"what answers at {url} is no review port", exit_code=UNREACHABLE) from None
    return answer


def address() -> str:
    """The review port of the settings in this directory; the usual one where there are none that can be read."""
    try:
        listen = settings.read(Path(SETTINGS)).review_port
    except (settings.SettingsError, YamlError):
        return REVIEW_URL
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1"}.get(listen.host, listen.host)  # noqa: S104 - told apart, not bound
    return f"{'https' if listen.certificate else 'http'}://{f'[{host}]' if ':' in host else host}:{listen.port}"


def name(text: str) -> str:
    """An id as one segment of a path."""
    return urllib.parse.quote(text, safe="")


def read(answer: bytes) -> Any:
    """The answer as a tree. Numbers that Python would round stay as they were written: `rendered` writes them so."""
    return json.loads(
        answer, parse_float=_as_written, parse_int=lambda text: int(text) if len(text) < 19 else _as_written(text)
    )


def rendered(value: Any) -> str:
    """A value of the tree as JSON, every number as it came."""
    return orjson.dumps(value).decode()


def _as_written(text: str) -> orjson.Fragment:
    return orjson.Fragment(text)


def _request(
    url: str, token_file: Path, method: str, path: str, body: Mapping[str, Any] | None
) -> urllib.request.Request:
    if not _is_address(url):
        raise Failure(f"--url: {url!r} is no address such as {REVIEW_URL}", exit_code=USAGE)
    return urllib.request.Request(  # noqa: S310 - http or https, looked at above
        url.rstrip("/") + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"authorization": f"Bearer {_token(token_file)}", "content-type": "application/json"},
    )


def _is_address(url: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0 and _one_word(url)
    except ValueError:  # no such port, or half an IPv6 address
        return False


def _one_word(text: str) -> bool:
    return text != "" and text.isascii() and text.isprintable() and " " not in text


def _token(path: Path) -> str:
    try:
        token = path.read_text().strip()
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}", exit_code=USAGE) from None
    except UnicodeDecodeError:
        token = ""
    if not _one_word(token):
        raise Failure(f"{path}: holds no token (one line, no spaces)", exit_code=USAGE)
    return token


def _refusal(error: urllib.error.HTTPError) -> str:
    try:
        refusal = json.load(error)["refusal"]
        code, fix = refusal["code"], _advice(refusal, error.code)
        return f"{code}: {refusal['message']}" + (f" ({fix})" if fix else "")
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"the review port answered {error.code}" + (f" ({_ELSEWHERE})" if error.code == _NO_ROUTE else "")


def _advice(refusal: Mapping[str, Any], status: int) -> Any:
    """What to do about a refusal. A token or a route that nobody knows is mostly one of the other port."""
    if refusal["code"] == Code.UNAUTHENTICATED and refusal.get("retry") != Retry.LATER:
        return "this port takes reviewers' tokens (reviewers.yaml)"
    if refusal["code"] == Code.INVALID_CALL and status == _NO_ROUTE:
        return _ELSEWHERE
    return refusal.get("fix")
