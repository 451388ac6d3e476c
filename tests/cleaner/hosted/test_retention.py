"""`expiry` and `RetentionRules` decide by retention rules which hosted images expire."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from entrepot.cleaner.hosted.images import HostedImage, subject_of
from entrepot.cleaner.hosted.retention import (
    RetentionRule,
    RetentionRules,
    everything,
    expiry,
    rule,
)
from entrepot.cleaner.reasons import Reason
from entrepot.datastore.refs import Digest, Repository, Tag
from entrepot.datastore.repositories import TagState

_DAY = 86400.0
_ROOT = Digest.of(b"root")
_NAME = Repository("team/app")


def _image(place: int | None) -> HostedImage:
    tags = {} if place is None else {Tag("v1"): TagState(_ROOT, 0)}
    return HostedImage(_NAME, _ROOT, tags, (_ROOT,), (_ROOT,), (), 0, place)


def _reason(place: int | None, by: RetentionRule, idle: float) -> Reason | None:
    why = expiry(_image(place), by, idle)
    return why.reason if why else None


def test_without_a_rule_no_image_expires() -> None:
    """With an empty rule, no hosted image expires."""
    assert [_reason(place, RetentionRule(), 1e9) for place in (0, 7, None)] == [None] * 3
    assert RetentionRule().is_idle


def test_a_ttl_counts_from_the_last_use() -> None:
    """An image expires if it was not used for longer than the TTL."""
    by = RetentionRule(ttl=10)

    assert [_reason(0, by, idle) for idle in (9, 10, 11)] == [None, None, Reason.TTL]


def test_without_a_ttl_all_but_the_newest_tags_expire_at_once() -> None:
    """With `keep` and without a TTL, all tagged images except the newest expire immediately."""
    by = RetentionRule(keep=2)

    assert [_reason(place, by, 0) for place in range(4)] == [None, None, Reason.KEEP, Reason.KEEP]


def test_with_a_ttl_all_but_the_newest_tags_expire_by_age() -> None:
    """With `keep` and a TTL, the newest tags never expire, and all others expire by the TTL."""
    by = RetentionRule(keep=1, ttl=10)

    assert [_reason(place, by, 11) for place in (0, 1)] == [None, Reason.TTL]
    assert [_reason(place, by, 9) for place in (0, 1)] == [None, None]


def test_an_untagged_image_expires_after_its_grace() -> None:
    """An image without a tag expires after `untagged`, or after the TTL if that is shorter."""
    assert [_reason(None, RetentionRule(untagged=5), idle) for idle in (5, 6)] == [
        None,
        Reason.UNTAGGED,
    ]
    assert _reason(None, RetentionRule(untagged=50, ttl=10), 11) is Reason.TTL
    assert _reason(0, RetentionRule(untagged=5), 6) is None


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ((0, 0, None), 0),
        ((10 * _DAY, 0, None), _DAY),
        ((60, 0, None), 60),
        ((0, 3, None), _DAY),
        ((10 * _DAY, 0, 0), 0),
        ((0, 0, 60), 60),
    ],
    ids=["for ever", "a TTL", "a short TTL", "newest only", "never", "nothing else"],
)
def test_the_default_grace_of_untagged_images(
    settings: tuple[float, int, float | None], expected: float
) -> None:
    """If `untagged` is not set and tagged images can expire, untagged ones expire after a day.

    If the TTL is shorter than a day, untagged images expire after the TTL.

    If tagged images never expire, untagged images do not expire either.
    """
    assert rule(*settings, is_evictable=True).untagged == expected


def test_a_repository_that_never_expires_is_not_evicted_for_size() -> None:
    """If no image of a repository can expire, none is evicted for size, despite CLEANER_HOSTED."""
    assert rule(0, 0, None, is_evictable=True).is_idle
    assert rule(60, 0, None, is_evictable=True).is_evictable
    assert not rule(60, 0, None, is_evictable=False).is_evictable


def test_with_cleaner_hosted_every_image_is_evictable() -> None:
    """With CLEANER_HOSTED, a repository without a rule is evictable, even without a TTL."""
    assert everything(0) == RetentionRule(0, 0, _DAY, is_evictable=True)
    assert everything(60) == RetentionRule(60, 0, 60, is_evictable=True)


_RULES = {"team/*": 1.0, "team/**": 2.0, "team/app": 3.0, "**/app": 4.0}


@pytest.mark.parametrize(
    ("name", "ttl"),
    [("team/app", 3), ("team/web", 2), ("team/a/b", 2), ("other/app", 4), ("other/web", 9)],
    ids=["the name itself", "two fit", "deeper", "another", "none fits"],
)
def test_the_longest_matching_pattern_decides(name: str, ttl: float) -> None:
    """If several patterns match a repository, the rule with the longest pattern applies."""
    for patterns in _orders(_RULES.items()):
        rules = RetentionRules(
            [(pattern, RetentionRule(ttl=at)) for pattern, at in patterns], RetentionRule(ttl=9)
        )

        assert rules.of(Repository(name)).ttl == ttl


def test_the_shortest_time_of_all_rules_is_found() -> None:
    """`shortest` returns the shortest time of all rules, and 0 if no image expires."""
    assert (
        RetentionRules(
            [("a", RetentionRule(ttl=9)), ("b", RetentionRule(untagged=4, ttl=8))], RetentionRule()
        ).shortest()
        == 4
    )
    assert RetentionRules().shortest() == 0


def test_expiry_gives_its_reason_in_words() -> None:
    """Each reason for which an image expires has a text that a dry run prints."""
    cases = [
        (_image(0), RetentionRule(ttl=30 * _DAY), 31 * _DAY),
        (_image(4), RetentionRule(keep=3), 0),
        (_image(1), RetentionRule(keep=1), 0),
        (_image(None), RetentionRule(untagged=_DAY), 25 * 3600),
    ]

    reasons = [why.words for each in cases if (why := expiry(*each))]

    assert reasons == [
        "not used for 31d, TTL is 30d",
        "not among the 3 newest tags",
        "not among the newest tag",
        "untagged, not used for 1d1h, grace is 1d",
    ]


@pytest.mark.parametrize("suffix", ["", ".sig", ".att"])
def test_a_tag_of_the_referrers_schema_names_its_subject(suffix: str) -> None:
    """`subject_of` returns the digest in a tag such as `sha256-HEX.sig`.

    Clients give such tags to signatures if a registry has no referrers API.
    """
    assert subject_of(Tag(f"sha256-{_ROOT.hex}{suffix}")) == _ROOT


@pytest.mark.parametrize("tag", ["latest", "sha256-12", "v1-amd64", "sha256", "-"])
def test_other_tags_name_no_subject(tag: str) -> None:
    """`subject_of` returns None for a tag that contains no digest."""
    assert subject_of(Tag(tag)) is None


def _orders(items: Iterable[tuple[str, float]]) -> list[list[tuple[str, float]]]:
    ordered = list(items)
    return [ordered, ordered[::-1]]
