"""The index stores the times at which links were confirmed (`LinkTimes`), with every driver."""

from __future__ import annotations

from entrepot.datastore.index import LinkTime, LinkTimes
from entrepot.datastore.refs import Digest
from tests.clock import Clock

A, B = Digest.of(b"a"), Digest.of(b"b", "sha512")


def test_a_confirmation_has_its_digest_and_the_time_of_the_index(
    link_times: LinkTimes, clock: Clock
) -> None:
    """The time of a confirmed link comes from the index's clock and is stored with the digest.

    Any digest algorithm and any key are allowed.
    """
    link_times.confirm("team/app/ü'%/link", A)
    clock.now += 0.25
    link_times.confirm("other", B)

    assert link_times.get("team/app/ü'%/link") == LinkTime("team/app/ü'%/link", A, clock.now - 0.25)
    assert link_times.get("other") == LinkTime("other", B, clock.now)


def test_a_later_confirmation_replaces_an_earlier_one(link_times: LinkTimes, clock: Clock) -> None:
    """A second confirmation of a link replaces the first, even if its time is earlier."""
    link_times.confirm("key", A)
    clock.now -= 10
    link_times.confirm("key", B)

    assert link_times.get("key") == LinkTime("key", B, clock.now)


def test_an_unknown_link_has_no_time(link_times: LinkTimes) -> None:
    """If a link was never confirmed, `get` returns None."""
    assert link_times.get("absent") is None


def test_forgotten_times_are_absent(link_times: LinkTimes) -> None:
    """`forget` deletes the times of links and ignores links without a time."""
    for key in ("a", "b", "c"):
        link_times.confirm(key, A)

    link_times.forget(["a", "c", "absent"])

    assert [each.key for each in link_times.page("", 10)] == ["b"]
    assert link_times.get("a") is None


def test_pages_have_each_time_once_in_the_order_of_keys(link_times: LinkTimes) -> None:
    """The pages of link times contain each time once, sorted by key.

    A page begins after the last key of the previous page.
    """
    for key in ("b", "a/2", "a/10", "c"):
        link_times.confirm(key, A)

    first = link_times.page("", 3)
    second = link_times.page(first[-1].key, 3)

    assert [each.key for each in first] == ["a/10", "a/2", "b"]
    assert [each.key for each in second] == ["c"]
    assert link_times.page("c", 3) == []


def test_restored_times_keep_their_own_time(link_times: LinkTimes, clock: Clock) -> None:
    """`restore` stores a link's time, unless a later time is stored for the same digest.

    It always replaces a time that is stored for another digest.
    """
    for key in ("later", "earlier", "other"):
        link_times.confirm(key, A)
    at = {"new": 5.0, "later": clock.now + 10, "earlier": clock.now - 10}
    link_times.restore([*(LinkTime(key, A, at[key]) for key in at), LinkTime("other", B, 1.0)])

    assert link_times.get("new") == LinkTime("new", A, 5.0)
    assert link_times.get("later") == LinkTime("later", A, at["later"])
    assert link_times.get("earlier") == LinkTime("earlier", A, clock.now)
    assert link_times.get("other") == LinkTime("other", B, 1.0)
