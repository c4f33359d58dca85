"""URLs as they may be told."""

from urllib.parse import urlsplit


def plain_url(url: str) -> str:
    """Without what may be secret in it: user, password, query and fragment."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"
