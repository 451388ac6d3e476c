"""Tests that the files and headings to which docstrings, comments and pages refer exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.language import ROOT, files, prose_of_module

_PATH = re.compile(r"[\w.-]+/[\w./-]*\w\.(?:py|md|cfg|conf|yml|svg)\b")
_NOT_BEFORE = frozenset("/*<>{}$@:~")
"""A path after one of these characters is a part of a URL, a pattern or another path."""

_GAP = r"[\s#]+"
"""White space, including a line break and the `#` of a comment on the next line."""
_QUOTED = r'"(?P<heading>[A-Z][^"]{2,80})"'
_PAGE = r"`?(?P<page>docs/[\w/.-]+\.md)`?"
_HEADINGS = (
    re.compile(rf"{_QUOTED}{_GAP}(?:of|in){_GAP}{_PAGE}"),
    re.compile(rf"{_PAGE},{_GAP}{_QUOTED}"),
)
_LINK = re.compile(r"\]\((?!https?:|mailto:)(?P<file>[^)#\s]*)(?:#(?P<anchor>[^)\s]+))?\)")


@cache
def _texts() -> dict[Path, str]:
    """Return the text of each file with comments or prose.

    Only the newest section of the CHANGELOG is included: older sections may name removed files.
    """
    texts = {path: path.read_text(encoding="utf-8") for path in files([ROOT])}
    texts[ROOT / "Containerfile"] = (ROOT / "Containerfile").read_text(encoding="utf-8")
    changes = texts[ROOT / "CHANGELOG.md"].split("\n## [")
    return texts | {ROOT / "CHANGELOG.md": "\n## [".join(changes[:2])}


def _paths(text: str) -> Iterator[str]:
    """Yield each path of a file in *text*, such as `docs/style.md`."""
    for found in _PATH.finditer(text):
        if text[found.start() - 1 : found.start()] not in _NOT_BEFORE:
            yield found[0]


def _exists(name: str, page: Path) -> bool:
    """Return True if a file has the path *name*, or has a longer path that ends with *name*.

    A path may also be relative to the folder of *page*. A path that begins with a folder of the
    root must be complete.
    """
    if (ROOT / name).is_file() or (page.parent / name).is_file():
        return True
    is_short = not (ROOT / name.partition("/")[0]).is_dir()
    return is_short and any(path.as_posix().endswith(f"/{name}") for path in _texts())


def _absent_files(path: Path, text: str) -> set[str]:
    """Return the paths in a file that lead to no file.

    In a Python module only docstrings and comments count, except for the names of pages in `docs/`,
    which count everywhere.
    """
    absent = {name for name in _paths(text) if not _exists(name, path)}
    if absent and path.suffix == ".py":
        prose = set(_paths(prose_of_module(text)))
        absent = {name for name in absent if name in prose or name.startswith("docs/")}
    return absent


def _headings(page: Path) -> set[str]:
    """Return the headings of a page, without their backticks; an absent page has no headings."""
    if not page.is_file():
        return set()
    found = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {heading.replace("`", "").strip() for heading in found}


def _anchor(heading: str) -> str:
    """Return the anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def _absent_headings(text: str) -> set[str]:
    """Return the references in *text* to headings that the named page does not have."""
    return {
        f"{found['page']}: {heading}"
        for pattern in _HEADINGS
        for found in pattern.finditer(text)
        for heading in [re.sub(_GAP, " ", found["heading"])]
        if heading not in _headings(ROOT / found["page"])
    }


def _dead_links(page: Path, text: str) -> set[str]:
    """Return the links of a page that lead to no file or no heading of the repository."""
    dead = set[str]()
    for link in _LINK.finditer(text):
        target = page.parent / link["file"] if link["file"] else page
        anchors = {_anchor(each) for each in _headings(target)} if target.suffix == ".md" else set()
        if not target.exists() or (link["anchor"] and link["anchor"] not in anchors):
            dead.add(link[0])
    return dead


def test_every_file_that_prose_names_exists() -> None:
    """Every file that a docstring, a comment, a page or a configuration file names exists."""
    absent = {
        f"{path.relative_to(ROOT)}: {name}"
        for path, text in _texts().items()
        for name in _absent_files(path, text)
    }

    assert absent == set()


def test_every_heading_that_prose_names_exists() -> None:
    """Every heading that a docstring, a comment or a page names exists in the named page."""
    absent = {
        f"{path.relative_to(ROOT)}: {heading}"
        for path, text in _texts().items()
        if ".md" in text
        for heading in _absent_headings(text)
    }

    assert absent == set()


def test_every_link_of_a_page_leads_to_a_file_or_a_heading() -> None:
    """Every link of a page to another page, a heading or an image leads somewhere."""
    dead = {
        f"{path.relative_to(ROOT)}: {link}"
        for path, text in _texts().items()
        if path.suffix == ".md"
        for link in _dead_links(path, text)
    }

    assert dead == set()


@pytest.mark.parametrize("name", ["registry/absent.py", "absent/layout.py", "tests/upstream.cfg"])
def test_the_name_of_an_absent_file_is_found(name: str) -> None:
    """The path of a file that does not exist is found in prose, but not in a URL or in code."""
    assert _absent_files(ROOT / "README.md", f"(see `{name}`).") == {name}
    assert _absent_files(ROOT / "README.md", f"https://host.test/{name}") == set()
    assert _absent_files(ROOT / "a.py", f"# See {name}.") == {name}
    assert _absent_files(ROOT / "a.py", f"_NAME = '{name}'") == set()


@pytest.mark.parametrize("name", ["docs/style.md", "datastore/layout.py", "objects/journal.py"])
def test_the_name_of_a_file_is_accepted(name: str) -> None:
    """A path from the root is accepted, and so is the last part of a file's path."""
    assert _absent_files(ROOT / "README.md", f"(see `{name}`).") == set()


@pytest.mark.parametrize(("heading", "is_absent"), [("Public names", False), ("Dates", True)])
def test_an_absent_heading_is_found(heading: str, is_absent: bool) -> None:  # noqa: FBT001
    """A reference to an absent heading is found, even if the heading is on two lines."""
    there = heading.replace(" ", "\n    # ")
    link = f"[names](style.md#{_anchor(heading)})"

    assert bool(_absent_headings(f'The section "{there}" of docs/style.md')) == is_absent
    assert bool(_absent_headings(f'(docs/style.md, "{there}")')) == is_absent
    assert bool(_dead_links(ROOT / "docs" / "a.md", link)) == is_absent
