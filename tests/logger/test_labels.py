"""Tests of the labels of metrics, which have a bounded number of values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.logger import labels
from entrepot.logger.labels import HOSTED, OTHER, UpstreamLabels


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("quay.io/podman/hello", "quay.io"),
        ("localhost_5000/app", "localhost_5000"),
        ("localhost:5000/app", "localhost_5000"),
        ("localhost/app", "localhost"),
        ("registry_5000/app", "registry_5000"),
        ("team/app", HOSTED),
        ("team_a/app", HOSTED),
        ("team_1/app", HOSTED),
        ("app", HOSTED),
        ("cache/app", "cache"),
        ("", ""),
    ],
)
def test_the_upstream_of_a_repository_is_its_first_component(name: str, expected: str) -> None:
    """A repository's upstream is the name's first component, if that is a host or configured.

    All other repositories are labelled as hosted.
    """
    assert UpstreamLabels(["cache"]).of_repository(name) == expected


def test_upstreams_beyond_the_limit_share_one_label() -> None:
    """Upstreams beyond the limit share one label value, so clients cannot create more values."""
    upstreams = UpstreamLabels(["a.example"], limit=2)
    found = [upstreams.of_repository(f"{host}.example/x") for host in "abcda"]

    assert found == ["a.example", "b.example", OTHER, OTHER, "a.example"]


@pytest.mark.parametrize(
    ("cache", "expected"),
    [
        ("", "none"),
        ("entrepot; hit", "hit"),
        ("entrepot; hit; ttl=59", "hit"),
        ("entrepot; hit; ttl=-1; detail=timeout", "stale"),
        ("entrepot; fwd=uri-miss; stored", "miss"),
        ("entrepot; fwd=uri-miss", "unstored"),
        ("entrepot; fwd=uri-miss; stored; collapsed", "collapsed"),
        ("entrepot; fwd=uri-miss; fwd-status=200; detail=linked", "linked"),
        ("entrepot; fwd=stale; fwd-status=304", "revalidated"),
        ("entrepot; fwd=stale; fwd-status=200; stored", "miss"),
        ('entrepot; fwd=partial; detail="no room; hit"', "partial"),
        ("entrepot", OTHER),
        ("entrepot; fwd=new-word", OTHER),
        ("\x00;;;=", OTHER),
    ],
)
def test_a_cache_status_is_one_word(cache: str, expected: str) -> None:
    """The label is one word from Cache-Status (RFC 9211); text in quotes does not change it."""
    assert labels.result(cache) == expected


def test_the_reason_of_a_stale_response_is_its_detail() -> None:
    """The reason of a stale response is the detail in its Cache-Status.

    Unknown details get the label value `other`.
    """
    assert labels.reason("entrepot; hit; ttl=-1; detail=timeout") == "timeout"
    assert labels.reason('entrepot; hit; ttl=-1; detail="what a client sent"') == OTHER


@pytest.mark.parametrize(
    ("kind", "uri", "expected"),
    [
        ("blob", "/anything", "blob"),
        ("index", "/v2/x/manifests/y", "manifest"),
        ("upload", "", "blob_upload"),
        ("", "/v2/", "base"),
        ("", "/v2?x=y", "base"),
        ("", "/v2/x", OTHER),
        ("", "", OTHER),
        ("new", "/v2/", OTHER),
    ],
)
def test_a_handler_has_the_name_of_docker_distribution(kind: str, uri: str, expected: str) -> None:
    """The label `handler` has docker distribution's names, so existing dashboards still work."""
    assert labels.handler(kind, uri) == expected


@given(st.text(), st.text(), st.integers())
def test_any_text_becomes_one_of_few_values(text: str, other: str, number: int) -> None:
    """Whatever clients request, each label has a small number of possible values."""
    assert labels.method(text) in {"get", "head", "put", "post", "patch", "delete", "options"} | {
        "unknown"
    }
    assert labels.code(number) == "none" or number in range(100, 600)
    assert labels.handler(text, other) in {"blob", "manifest", "tags", "referrers", "base"} | {
        "catalog",
        "blob_upload",
        "other",
    }
    assert len(labels.result(text)) < 12
    assert len(labels.reason(text)) < 12
