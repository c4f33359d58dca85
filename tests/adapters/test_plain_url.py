"""What is told of a URL."""

import pytest

from proxy.adapters.plain_url import plain_url


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://user:canary@keys.test/a/b?sig=canary#canary", "https://keys.test/a/b"),
        ("https://keys.test:8443/", "https://keys.test:8443/"),
    ],
)
def test_a_url_is_told_without_its_secrets(url: str, told: str) -> None:
    assert plain_url(url) == told
