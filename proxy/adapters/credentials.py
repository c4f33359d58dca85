"""Named credentials towards upstreams (design section 17): files that are re-read when they change, or the environment."""

import base64
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from urllib.parse import quote, quote_plus

from proxy.adapters.watched_file import UnusableFileError, WatchedFile
from proxy.ports import Clock

_WORLD_READABLE = 0o004
_LONG_SECRET = 8  # bytes; encoded forms of shorter ones would match by chance
_FORBIDDEN = re.compile(r"[\r\n\0]")
_VISIBLE = re.compile(r"[\x20-\x7e]+")
# These would reframe or redirect the request.
_NOT_CREDENTIALS = frozenset({"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"})


class CredentialUnavailableError(Exception):
    """A configured credential cannot be read now. Says why without saying what was read."""


class Secret:
    """A text that no log, error or record shows. `reveal` is for the request that needs it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What goes into one request header, and the forms in which it might come back."""

    header: str
    value: Secret
    forms: tuple[bytes, ...] = field(repr=False)

    def echoed_in(self, *texts: bytes) -> bool:
        """Whether one of the texts contains the secret, plain or (if it is long enough) in a usual encoding."""
        return any(form in text for text in texts for form in self.forms)


class Credentials:
    """The credentials of the settings, by name. `given` is {name: {kind: value}} with one of `bearer_file`, `header_file`
    (and `header`), `basic_file` (user:password), `env`; `variables` is the environment as read by settings; `warn` takes a
    sentence for the operator. Raises ValueError for a header that cannot carry a credential."""

    def __init__(
        self,
        given: Mapping[str, Mapping[str, str]],
        variables: Mapping[str, str],
        clock: Clock,
        warn: Callable[[str], None],
    ) -> None:
        self._variables = variables
        self._clock = clock
        self._warn = warn
        self._told = set[str]()
        self._sources = {name: self._source(name, fields) for name, fields in given.items()}

    def get(self, name: str | None) -> Credential | None:
        """The credential as it is now; None if the upstream has none. Raises CredentialUnavailableError."""
        if name is None:
            return None
        source = self._sources.get(name)
        if source is None:
            raise CredentialUnavailableError(f"credential {name} is not in the settings")
        try:
            return source()
        except (UnusableFileError, ValueError) as e:
            why = f"credential {name}: {e}"
            if why not in self._told:  # a call is refused each time
                self._told.add(why)
                self._warn(why)
            raise CredentialUnavailableError(why) from None

    def _source(self, name: str, fields: Mapping[str, str]) -> Callable[[], Credential]:
        if "env" in fields:
            return cache(lambda: _bearer(_clean(self._variables.get(fields["env"], ""))))
        if "bearer_file" in fields:
            return self._file(name, fields["bearer_file"], _bearer)
        if "basic_file" in fields:
            return self._file(name, fields["basic_file"], _basic)
        header = fields["header"]
        if header.lower() in _NOT_CREDENTIALS:
            raise ValueError(f"credential {name}: header {header} cannot carry a credential")
        return self._file(name, fields["header_file"], lambda text: _in_header(header, text, text))

    def _file(self, name: str, given: str, make: Callable[[str], Credential]) -> Callable[[], Credential]:
        path = Path(given)

        def parse(content: bytes) -> Credential:
            if path.stat().st_mode & _WORLD_READABLE and not _read_only(path):
                self._warn(f"credential {name}: every user of this machine can read its file")
            return make(_clean(_decoded(content)))

        return WatchedFile(path, parse, self._clock, report=self._warn).value


def _read_only(path: Path) -> bool:
    """Whether it lies on a read-only mount: a container's own (a kubelet mounts Secrets as 0644), which others do not see."""
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def _decoded(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None  # the codec's own message quotes a byte of the secret


def _clean(text: str) -> str:
    text = text.strip()
    if not text:
        raise ValueError("is empty or not set")
    if _FORBIDDEN.search(text):
        raise ValueError("contains a line break or NUL")
    return text


def _bearer(token: str) -> Credential:
    return _in_header("Authorization", f"Bearer {token}", token)


def _basic(pair: str) -> Credential:
    _, colon, password = pair.partition(":")
    if not colon or not password:
        raise ValueError("is not user:password")
    encoded = base64.b64encode(pair.encode()).decode()
    return _in_header("Authorization", f"Basic {encoded}", password, encoded)


def _in_header(header: str, value: str, *secrets: str) -> Credential:
    if not _VISIBLE.fullmatch(value):
        raise ValueError("contains characters that no header can carry")
    forms = dict.fromkeys(form for secret in secrets for form in _forms(secret))
    return Credential(header=header, value=Secret(value), forms=tuple(forms))


def _forms(secret: str) -> Iterator[bytes]:
    plain = secret.encode()
    yield plain
    if len(plain) < _LONG_SECRET:
        return
    yield plain.lower()  # media types and the like are compared in lower case
    yield json.dumps(secret)[1:-1].encode()
    yield json.dumps(secret)[1:-1].replace("/", "\\/").encode()
    for quoted in (quote(secret, safe=""), quote_plus(secret)):
        yield from (quoted.encode(), re.sub("%..", lambda match: match[0].lower(), quoted).encode())
    yield from (plain.hex().encode(), plain.hex().upper().encode())
    for offset in range(3):
        yield from _base64(plain, offset)


def _base64(plain: bytes, offset: int) -> Iterator[bytes]:
    # Inside a longer text the secret starts at any of three places of a group; the groups it shares with others are left out.
    whole = base64.b64encode(b"\0" * offset + plain)
    begin = 4 if offset else 0
    end = (len(plain) + offset) // 3 * 4
    yield whole[begin:end]
    yield whole[begin:end].translate(bytes.maketrans(b"+/", b"-_"))
