"""Lists of tags and repositories are sent in pages (OCI spec 1.1, end-8; docker's `_catalog`)."""

from __future__ import annotations

from pathlib import Path

import pytest

from entrepot.datastore.refs import Digest, Repository, Tag
from entrepot.registry.auth.basic import BasicAuthenticator
from entrepot.registry.auth.identity import Action, Identity
from tests.images import filler, image
from tests.registry.push.pushing import NAME, Pushing, code, pushing

_MADE = image([filler(500, 1)])
_UPSTREAM = "quay.io"


def _tag(p: Pushing, *tags: str) -> None:
    p.image(_MADE, _MADE.digest)
    for tag in tags:
        p.repositories.set_tag(Repository(NAME), Tag(tag), _MADE.digest)


def _link(p: Pushing, *names: str, origin: str | None = None) -> None:
    for name in map(Repository, names):
        if origin:
            p.repositories.set_origin(name, origin)
        p.repositories.link_manifest(name, Digest.of(b"x"))


def _pages(p: Pushing, url: str, field: str) -> list[list[str]]:
    """Return all pages of a list, following their Link headers."""
    found = []
    while url:
        answer = p.send("GET", url)
        assert answer.status_code == 200, answer.text
        found.append(answer.json[field])
        url = answer.headers.get("link", "").partition("<")[2].partition(">")[0]
    return found


# ---- tags


def test_tags_are_listed_in_byte_order(p: Pushing) -> None:
    """Tags are listed in the order of their bytes, as Go sorts strings.

    Upper-case letters precede lower-case letters.
    """
    _tag(p, "b", "A", "a.1", "a", "_x", "B")

    assert p.ask("GET", "tags/list").json == {
        "name": NAME,
        "tags": ["A", "B", "_x", "a", "a.1", "b"],
    }


def test_a_repository_without_tags_has_an_empty_list(p: Pushing) -> None:
    """A repository without tags returns an empty list of tags; an unknown repository gets 404."""
    p.image(_MADE, _MADE.digest)

    assert p.tags() == []
    assert p.send("GET", "/v2/team/none/tags/list").status_code == 404


def test_tags_are_listed_in_pages(p: Pushing) -> None:
    """Each page of tags except the last has a Link to the next page.

    The last page has no Link even if the page is full.
    """
    _tag(p, *"abcdef")

    pages = _pages(p, f"/v2/{NAME}/tags/list?n=2", "tags")

    assert pages == [["a", "b"], ["c", "d"], ["e", "f"]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?last=b", ["c", "d"]),
        ("?last=bb", ["c", "d"]),
        ("?last=d", []),
        ("?n=1&last=b", ["c"]),
        ("?n=9", ["a", "b", "c", "d"]),
    ],
)
def test_last_need_not_be_an_existing_tag(p: Pushing, query: str, expected: list[str]) -> None:
    """A list of tags with `last` begins after the name in `last`, even if no tag has that name."""
    _tag(p, *"abcd")

    assert p.tags(query) == expected


@pytest.mark.parametrize("path", [f"/v2/{NAME}/tags/list", "/v2/_catalog"])
def test_n_0_lists_nothing(p: Pushing, path: str) -> None:
    """A list that is requested with `n=0` is empty and has no Link."""
    _tag(p, "a")

    answer = p.send("GET", f"{path}?n=0")

    assert [] in answer.json.values()
    assert "link" not in answer.headers


@pytest.mark.parametrize("path", [f"/v2/{NAME}/tags/list", "/v2/_catalog"])
@pytest.mark.parametrize("count", ["-1", "x", "9" * 20])
def test_an_invalid_n_is_400(p: Pushing, path: str, count: str) -> None:
    """A list that is requested with an invalid `n` gets 400."""
    _tag(p, "a")

    refused = p.send("GET", f"{path}?n={count}")

    assert (refused.status_code, code(refused)) == (400, "PAGINATION_NUMBER_INVALID")


# ---- tests of pages of repositories


def test_hosted_repositories_are_listed_before_proxied_ones(tmp_path: Path) -> None:
    """The catalog lists hosted repositories before proxied ones, both sorted by name.

    It omits repositories that no request can reach, such as those of a removed upstream.
    """
    p = pushing(tmp_path, upstreams=[_UPSTREAM, "ghcr.io", "127.0.0.1:5000"])
    _link(p, f"{_UPSTREAM}/b/app", f"{_UPSTREAM}/a", "ghcr.io/x", origin="any")
    _link(p, "127.0.0.1_5000/y", origin="127.0.0.1:5000")
    _link(p, "gone.test/app", origin="gone.test")
    _link(p, "team/app", "team-b/app", "zoo", "quay.io-mirror/a")

    found = p.send("GET", "/v2/_catalog").json["repositories"]

    hosted = ["quay.io-mirror/a", "team-b/app", "team/app", "zoo"]
    cached = ["127.0.0.1_5000/y", "ghcr.io/x", "quay.io/a", "quay.io/b/app"]
    assert found == hosted + cached


@pytest.mark.parametrize("n", range(1, 9))
def test_repositories_are_listed_in_pages(tmp_path: Path, n: int) -> None:
    """All pages of the catalog together list each repository once, for any page size."""
    p = pushing(tmp_path, upstreams=[_UPSTREAM])
    _link(p, "a", "a/b", "a-b/c", "zoo")
    _link(p, "quay.io/a", "quay.io/b", "quay.io/b/c", origin=_UPSTREAM)

    pages = _pages(p, f"/v2/_catalog?n={n}", "repositories")

    assert [len(page) for page in pages[:-1]] == [n] * (len(pages) - 1)
    assert [name for page in pages for name in page] == [
        *("a", "a-b/c", "a/b", "zoo"),
        *("quay.io/a", "quay.io/b", "quay.io/b/c"),
    ]


def _link_many(p: Pushing, count: int) -> None:
    for number in range(count):
        (p.root / f"docker/registry/v2/repositories/r{number:04}/_manifests").mkdir(parents=True)


def test_a_page_has_100_repositories_by_default(p: Pushing) -> None:
    """If a client requests the catalog without `n`, a page lists 100 repositories.

    Docker distribution does the same.
    """
    _link_many(p, 101)

    first, rest = _pages(p, "/v2/_catalog", "repositories")

    assert (len(first), rest) == (100, ["r0100"])


def test_a_larger_n_than_the_limit_of_the_catalog_is_400(tmp_path: Path) -> None:
    """A request for more repositories than `catalog.maxentries` gets 400, as in distribution."""
    p = pushing(tmp_path, catalog_page=3)
    _link_many(p, 4)

    refused = p.send("GET", "/v2/_catalog?n=4")

    assert (refused.status_code, code(refused)) == (400, "PAGINATION_NUMBER_INVALID")
    assert [len(page) for page in _pages(p, "/v2/_catalog?n=3", "repositories")] == [3, 1]
    assert [len(page) for page in _pages(p, "/v2/_catalog", "repositories")] == [3, 1]


def test_a_larger_n_than_the_limit_of_tags_gets_a_page_of_that_limit(tmp_path: Path) -> None:
    """If `n` is larger than `tags.maxtags`, a page lists `tags.maxtags` tags.

    The page has a Link to the next page.
    """
    p = pushing(tmp_path, tags_page=3)
    _tag(p, *"abcd")

    pages = _pages(p, f"/v2/{NAME}/tags/list?n=9", "tags")

    assert pages == [["a", "b", "c"], ["d"]]
    assert p.tags() == ["a", "b", "c", "d"]


def test_an_unreadable_repository_is_not_listed(tmp_path: Path) -> None:
    """A repository that the user may not pull is not listed.

    The page still has `n` entries if enough other repositories exist.
    """

    class Mine(Identity):
        def may(self, action: Action, repository: Repository | None) -> bool:
            return repository is not None and action == "pull" and "mine" in repository.name

    class Rules:
        def identify(self, authorization: str | None) -> Identity:
            return Mine(authorization, frozenset({"pull"}))

    p = pushing(tmp_path, upstreams=[_UPSTREAM], authenticator=Rules())
    _link(p, "a", "mine/a", "mine/b", "other")
    _link(p, "quay.io/mine", "quay.io/other", origin=_UPSTREAM)

    assert _pages(p, "/v2/_catalog?n=2", "repositories") == [["mine/a", "mine/b"], ["quay.io/mine"]]


def test_an_anonymous_client_gets_no_catalog(tmp_path: Path) -> None:
    """If a registry requires a login, an anonymous client gets 401 for the catalog."""
    p = pushing(tmp_path, authenticator=BasicAuthenticator(lambda *_: False, realm="r"))

    assert p.send("GET", "/v2/_catalog").status_code == 401
