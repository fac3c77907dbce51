"""What the documents say of the code, and the code of the documents, is there."""

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
LOG = (PROJECT / "docs" / "log.md").read_text()
TITLES = set(re.findall(r"^### (.+)$", LOG, re.MULTILINE))
ROOMS = ("sweeper", "trainers", "evaluation", "miniature", "benchmarks")
CODE = [path for room in ROOMS for path in PROJECT.glob(f"{room}/**/*.py")]
PAGES = ("README.md", "CONTRIBUTING.md", "docs/structure.md")
FOLDERS = (*ROOMS, "tests", "conf", "docs", "hydra_plugins")


def test_every_entry_of_the_log_has_a_title_of_its_own():
    assert len(re.findall(r"^### ", LOG, re.MULTILINE)) == len(TITLES)


def test_code_that_cites_the_log_names_an_entry():
    cited = 0
    for path in CODE:
        text = re.sub(r"\s*\n\s*#?\s*", " ", path.read_text())  # a comment runs over lines
        for rest in re.findall(r"docs/log\.md(.{0,120})", text):
            title = re.match(r', "([^"]+)"', rest)
            assert title, f"{path}: docs/log.md{rest}"
            assert title[1] in TITLES, f"{path}: {title[1]}"
            cited += 1
    assert cited


@pytest.mark.parametrize("page", PAGES)
def test_paths_on_the_pages_exist(page):
    """Paths in backticks and links; NAME and SIGNATURE stand for something else."""
    text = (PROJECT / page).read_text()
    paths = re.findall(r"`([\w./-]+)`", text) + re.findall(r"\]\(([\w./-]+)\)", text)
    known = [path for path in paths if path.split("/")[0] in FOLDERS and not re.search(r"NAME|SIGNATURE", path)]
    assert known
    missing = [path for path in known if not (PROJECT / path).exists()]
    assert not missing
