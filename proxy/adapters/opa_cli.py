"""OPA as a command: checking, parsing and testing policies. Never on the path of a call."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

# What a policy may not do: reach the network or the machine, or say something else at every asking.
FORBIDDEN_BUILTINS = frozenset(
    {
        "http.send",
        "net.lookup_ip_addr",
        "opa.runtime",
        "rand.intn",
        "uuid.rfc4122",
        "time.now_ns",
        "io.jwt.encode_sign",
        "io.jwt.encode_sign_raw",
        "io.jwt.decode_verify",
        "providers.aws.sign_req",
        "rego.parse_module",
        "trace",
        "internal.print",  # `print` would write arguments into the log
        "print",
        "json.match_schema",  # a remote $ref in a schema is fetched
        "json.verify_schema",
    }
)
NOTHING: Mapping[str, str] = {}  # all that an OPA process gets to see of our environment


class OpaFailedError(Exception):
    """OPA could not be started, did not end in time, or said something unreadable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What one run of OPA came to."""

    code: int
    out: bytes
    err: bytes

    @property
    def text(self) -> str:
        """Both streams, for people."""
        return (self.out + self.err).decode("utf-8", "replace").strip()


async def run_opa(
    opa: Path, *arguments: str, directory: Path, seconds: float = 30.0, standard_input: bytes | None = None
) -> Said:
    """Run OPA once, in an almost empty environment, for at most `seconds`. Raises OpaFailedError."""
    try:
        process = await asyncio.create_subprocess_exec(
            opa,
            *arguments,
            cwd=directory,
            env=NOTHING,
            stdin=asyncio.subprocess.PIPE if standard_input is not None else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise OpaFailedError(f"OPA cannot be started from {opa}: {error.strerror}") from error
    try:
        async with asyncio.timeout(seconds):
            out, err = await process.communicate(standard_input)
    except TimeoutError as error:
        raise OpaFailedError(f"opa {arguments[0]} did not end within {seconds:g} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    code = process.returncode or 0
    if code < 0:  # killed, for want of memory perhaps: it has said nothing of what it was asked
        raise OpaFailedError(f"opa {arguments[0]} was ended by signal {-code}")
    return Said(code=code, out=out, err=err)


async def capabilities(opa: Path, directory: Path) -> bytes:
    """The capabilities file of this very OPA without what policies may not do. Raises OpaFailedError."""
    said = await run_opa(opa, "capabilities", "--current", directory=directory)
    whole = read(said)
    allowed = [builtin for builtin in whole["builtins"] if builtin["name"] not in FORBIDDEN_BUILTINS]
    return orjson.dumps({**whole, "builtins": allowed, "allow_net": []})


def read(said: Said) -> Any:
    """The JSON that OPA printed. Raises OpaFailedError with what it said instead."""
    try:
        return orjson.loads(said.out)
    except orjson.JSONDecodeError as error:
        raise OpaFailedError(f"OPA said something unreadable: {said.text[:500]}") from error


def errors(said: Said, names: dict[str, str] | None = None) -> list[str]:
    """OPA's own error list as `file:row: sentence`; `names` maps its file names to the author's."""
    try:
        answer = orjson.loads(said.out or said.err)
        listed: Sequence[dict[str, object]] = answer["errors"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return [_renamed(said.text[:2000], names or {})]
    return [_sentence(error, names or {}) for error in listed]


def _renamed(text: str, names: dict[str, str]) -> str:
    for name, author in names.items():
        text = text.replace(name, author)
    return text


def _sentence(error: dict[str, object], names: dict[str, str]) -> str:
    location = error.get("location")
    if not isinstance(location, dict):
        return ": ".join(str(error[key]) for key in ("code", "message") if error.get(key))
    file = str(location.get("file"))
    return f"{names.get(file, file)}:{location.get('row')}: {error.get('message')}"
