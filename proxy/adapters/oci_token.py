"""A registry's challenge, answered: the credential is exchanged for a token that may pull from one repository.

Distribution's token specification: https://distribution.github.io/distribution/spec/auth/token/
"""

import re
from collections.abc import Mapping, Sequence

import aiohttp
import orjson
from yarl import URL

from proxy.adapters.archive import ArchiveError
from proxy.adapters.bundle_http import bounded
from proxy.core.oci_reference import LOOPBACK, Reference

_LARGEST = 64 * 1024  # bytes of a token service's answer
_BEARER = re.compile(r"(?:^|,)\s*Bearer\s+(.*)", re.IGNORECASE)
_PARAMETER = re.compile(r'([A-Za-z_]+)\s*=\s*"([^"]*)"')
_TOKEN = re.compile(r"[\x21-\x7e]+")


async def exchanged(
    session: aiohttp.ClientSession, reference: Reference, challenges: Sequence[str], headers: Mapping[str, str]
) -> dict[str, str] | None:
    """The headers with a token in the credential's place; None if no challenge asks for one. `challenges` are the values of
    WWW-Authenticate. Raises ArchiveError."""
    found = next((match[1] for value in challenges if (match := _BEARER.search(value))), None)
    if found is None:
        return None
    said = {name.lower(): value for name, value in _PARAMETER.findall(found)}
    realm = led_to(URL(reference.base), said.get("realm", ""), reference)
    if realm is None:
        raise ArchiveError("the registry names a token service that has no https address; nothing was sent there")
    query = {
        "scope": f"repository:{reference.repository}:pull",
        **({"service": s} if (s := said.get("service")) else {}),
    }
    credential = {name: value for name, value in headers.items() if name.lower() == "authorization"}
    others = {name: value for name, value in headers.items() if name not in credential}
    return {**others, "Authorization": f"Bearer {await _token(session, realm.update_query(query), credential)}"}


def led_to(base: URL, place: str, reference: Reference) -> URL | None:
    """Where the registry sends us, if we go there: over https, or to loopback if it is there itself; never with a password."""
    try:
        url = base.join(URL(place, encoded=True))
    except ValueError:
        return None
    there_too = reference.loopback and url.scheme == "http" and url.host in {name.strip("[]") for name in LOOPBACK}
    return url if url.host and url.user is None and (url.scheme == "https" or there_too) else None


async def _token(session: aiohttp.ClientSession, url: URL, credential: Mapping[str, str]) -> str:
    asked = {"Accept": "application/json", "Accept-Encoding": "identity", **credential}
    async with session.get(url, headers=asked, allow_redirects=False) as answer:
        if answer.status != 200:
            raise ArchiveError(
                f"the registry's token service answered with status {answer.status}: "
                "does the credential (`bundle.credential`) fit, and may it pull?"
            )
        body = await bounded(answer, _LARGEST, "the answer of the registry's token service ")
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        said = None
    token = (said.get("token") or said.get("access_token")) if isinstance(said, dict) else None
    if not isinstance(token, str) or _TOKEN.fullmatch(token) is None:
        raise ArchiveError("the registry's token service gave no token")
    return token
