"""README and the pages it leads to, read: which blocks are run and where, links, and the paths of commands for a pod."""

import re
from pathlib import Path

import pytest
import yaml

from tests.e2e.readme_page import BLOCKS, README, REPO

PAGES = [REPO / "README.md", REPO / "deploy" / "README.md"]
# Blocks of shell that no test runs, by a word of theirs, and why.
NOT_RUN = {
    "deploy/quickstart.sh": "tests/deploy/test_quickstart.py runs it",
    "docker buildx": "needs a registry; tests/pod builds the image",
    "openssl genrsa": "tests/e2e/test_delivery.py builds and signs so",
    "oras push": "needs oras; tests/e2e/test_delivery_oci.py pushes so",
    "--teams payments": "tests/e2e/test_delivery.py builds layers so",
}
RUNBOOKS = sorted((REPO / "deploy" / "monitoring").rglob("*.md"))


def test_every_marked_block_is_run() -> None:
    """By its name, in a test of its page or in the shell that all of them open."""
    tests = [path for path in Path(__file__).parent.glob("*readme*.py") if path != Path(__file__)]
    text = "".join(path.read_text() for path in tests)
    assert [name for name in BLOCKS if f'"{name}"' not in text] == []
    assert len(BLOCKS) == README.count("<!-- test: ")


def test_a_block_of_shell_is_run_or_says_why_not() -> None:
    """Each of the two pages that is not marked stands in the table above, and nothing stands there in vain."""
    text = "".join(page.read_text() for page in PAGES)
    blocks = re.findall(r"(?<! -->)\n *```(?:bash|sh)\n(.*?)```", text, re.DOTALL)
    unmarked = [text for text in blocks if not any(word in text for word in NOT_RUN)]
    assert unmarked == []
    assert [word for word in NOT_RUN if not any(word in text for text in blocks)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPO)))
def test_every_link_leads_somewhere(page: Path) -> None:
    """To a file of the checkout, or to a heading of this page or of that file."""
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    for link in links:
        path, _, anchor = link.partition("#")
        if not path.startswith("http"):
            target = page.parent / path if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link
    assert links


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub names them."""
    titles = re.findall(r"^#+ (.*)", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_pages_name_the_paths_that_the_chart_renders() -> None:
    """State, journal and settings in every command of README's night and of the runbooks."""
    documents = list(yaml.safe_load_all((REPO / "helm" / "examples" / "injected.yaml").read_text()))
    settings = next(d["data"]["sidegate.yaml"] for d in documents if d and "sidegate.yaml" in d.get("data", {}))
    template = next(d["template"]["spec"] for d in documents if d and d["kind"] == "PodTemplate")
    (sidecar,) = [one for one in template["initContainers"] if one["name"] == "sidegate"]
    text = README.partition("### At night")[2] + "".join(page.read_text() for page in RUNBOOKS)
    journals = set(re.findall(r"/var/lib/sidegate/[a-z/]+", text))
    assert journals == {f"{yaml.safe_load(settings)['state']}/journal"}
    assert set(re.findall(r"--settings (\S+?\.yaml)", text)) == {sidecar["args"][2]}
