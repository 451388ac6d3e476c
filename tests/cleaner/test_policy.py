"""What goes, in which order, and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entrepot.cleaner.policy import Demand, Eviction, Reason, Step, StoreLimits, closure, plan
from entrepot.datastore.budget import OVERHEAD
from entrepot.datastore.index import ContentKind, Cursor, IndexEntry
from entrepot.datastore.refs import Digest

# a busy machine is no failure
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

_DAY = 86400.0
_MIB = 1024 * 1024


def _digest(number: int) -> Digest:
    return Digest("sha256", f"{number:064x}")


def _cost(entries: Iterable[IndexEntry]) -> int:
    """Add up what entries take: their content, and what they cost beside it."""
    return sum(entry.size + OVERHEAD for entry in entries)


def _evictions(steps: Iterable[Step]) -> list[Eviction]:
    return [eviction for step in steps for eviction in step.evictions]


@dataclass(frozen=True)
class Shelf:
    """Rows in the order of eviction, what each names, and what may not go."""

    entries: tuple[IndexEntry, ...]
    names: Mapping[Digest, tuple[Digest, ...]]
    spared: frozenset[Digest] = frozenset()

    def named(self, digest: Digest) -> tuple[Digest, ...]:
        """Return what a manifest names."""
        return self.names.get(digest, ())

    def held(self) -> int:
        """Return the bytes of all rows."""
        return _cost(self.entries)

    def plan(self, bounds: StoreLimits, moment: Demand) -> list[Eviction]:
        """Plan with what is spared here."""
        spares = self.spared.__contains__
        return _evictions(plan(self.entries, bounds, moment, spares=spares, named=self.named))


@st.composite
def shelves(draw: st.DrawFn) -> Shelf:
    """Draw what an index may hold: who is used later is what a manifest names, never it."""
    sizes = draw(st.lists(st.integers(0, OVERHEAD), max_size=12))
    kinds = sorted(draw(st.sampled_from(ContentKind)) for _ in sizes)
    used = [float(draw(st.integers(0, 8))) for _ in sizes]
    names: dict[Digest, tuple[Digest, ...]] = {}
    for number, kind in enumerate(kinds):
        below = [other for other, at in enumerate(kinds) if at > kind]
        parts = draw(st.lists(st.sampled_from(below), unique=True, max_size=4)) if below else []
        names[_digest(number)] = tuple(_digest(part) for part in parts)
        for part in parts:
            used[part] = max(used[part], used[number])
    entries = [
        IndexEntry(_digest(number), size, kinds[number], used[number])
        for number, size in enumerate(sizes)
    ]
    spared = draw(st.frozensets(st.sampled_from([e.digest for e in entries]))) if entries else ()
    return Shelf(tuple(sorted(entries, key=Cursor.after)), names, frozenset(spared))


_sizes = st.integers(0, 10 * OVERHEAD)
_bounds = st.builds(
    lambda ttl, target, above, more: StoreLimits(
        ttl, target, target + above, target + above + more
    ),
    ttl=st.integers(0, 10).map(float),
    target=_sizes,
    above=st.integers(0, 2 * OVERHEAD),
    more=st.integers(0, 2 * OVERHEAD),
)


@unhurried
@given(shelves(), _bounds, _sizes)
def test_what_is_left_never_names_what_is_gone(
    shelf: Shelf, bounds: StoreLimits, needs: int
) -> None:
    """Whatever is spared, and for whatever reason the rest goes."""
    evictions = shelf.plan(bounds, Demand(10, shelf.held(), needs))

    gone = {eviction.entry.digest for eviction in evictions}
    left = {entry.digest for entry in shelf.entries} - gone
    assert not closure(left, shelf.named) & gone


@unhurried
@given(shelves(), _bounds, _sizes)
def test_what_is_spared_stays_with_all_that_it_names(
    shelf: Shelf, bounds: StoreLimits, needs: int
) -> None:
    """A pinned manifest without its layers would be of no use."""
    evictions = shelf.plan(bounds, Demand(10, shelf.held(), needs))

    gone = {eviction.entry.digest for eviction in evictions}
    assert not closure(shelf.spared, shelf.named) & gone


@unhurried
@given(shelves(), _bounds, _sizes)
def test_the_target_is_reached_unless_only_what_is_spared_is_left(
    shelf: Shelf, bounds: StoreLimits, needs: int
) -> None:
    """Eviction for size that has begun ends at the target, with what is asked for."""
    evictions = shelf.plan(bounds, Demand(10, shelf.held(), needs))

    if any(eviction.reason is Reason.SIZE for eviction in evictions):
        gone = {eviction.entry.digest for eviction in evictions}
        left = [entry for entry in shelf.entries if entry.digest not in gone]
        kept = closure(shelf.spared, shelf.named)
        fits = _cost(left) + needs <= (bounds.target or 0)
        assert fits or all(entry.digest in kept for entry in left)


@unhurried
@given(shelves(), _bounds, _sizes)
def test_nothing_goes_for_size_that_the_target_did_not_ask_for(
    shelf: Shelf, bounds: StoreLimits, needs: int
) -> None:
    """Without the last eviction, the target is not reached."""
    evictions = shelf.plan(bounds, Demand(10, shelf.held(), needs))

    if evictions and evictions[-1].reason is Reason.SIZE:
        before = _cost(eviction.entry for eviction in evictions[:-1])
        assert shelf.held() - before + needs > (bounds.target or 0)


@unhurried
@given(shelves(), _bounds, _sizes)
def test_what_was_used_last_outlives_what_was_not(
    shelf: Shelf, bounds: StoreLimits, needs: int
) -> None:
    """What goes is the front of the order, but for what is spared."""
    evictions = shelf.plan(bounds, Demand(10, shelf.held(), needs))

    kept = closure(shelf.spared, shelf.named)
    free = [entry for entry in shelf.entries if entry.digest not in kept]
    gone = [eviction.entry for eviction in evictions]
    assert gone == free[: len(gone)]


@unhurried
@given(shelves(), _bounds)
def test_nothing_goes_for_size_below_the_start(shelf: Shelf, bounds: StoreLimits) -> None:
    """The room above the target is there to be used."""
    roomy = replace(bounds, start=shelf.held(), room=shelf.held())

    evictions = shelf.plan(roomy, Demand(10, shelf.held()))

    assert all(eviction.reason is Reason.TTL for eviction in evictions)


@unhurried
@given(shelves(), st.integers(1, 10))
def test_everything_older_than_the_ttl_goes_and_nothing_else(shelf: Shelf, ttl: int) -> None:
    """Without a limit of size, age alone decides."""
    evictions = shelf.plan(StoreLimits(ttl=ttl), Demand(10, shelf.held()))

    kept = closure(shelf.spared, shelf.named)
    old = [entry for entry in shelf.entries if 10 - entry.used > ttl]
    assert [e.entry for e in evictions] == [entry for entry in old if entry.digest not in kept]


def _row(
    number: int, *, takes: int = 1000, kind: ContentKind = ContentKind.BLOB, used: float = 0
) -> IndexEntry:
    return IndexEntry(_digest(number), takes - OVERHEAD, kind, used)


def _nothing(_: Digest) -> Iterable[Digest]:
    return ()


def _keeps(_: Digest) -> bool:
    return False


def test_the_plan_reads_one_entry_further_than_it_must() -> None:
    """Evicting a hundred of a million costs no walk over a million."""
    read = 0

    def rows() -> Iterator[IndexEntry]:
        nonlocal read
        for number in range(1_000_000):
            read += 1
            yield _row(number)

    bounds, moment = StoreLimits(target=900_000, start=950_000), Demand(10, held=1_000_000)
    evictions = list(plan(rows(), bounds, moment, spares=_keeps, named=_nothing))

    assert (len(evictions), read) == (100, 101)


def test_at_equal_times_an_index_goes_before_its_manifests_and_they_before_their_parts() -> None:
    """The order of the rows is the order of going."""
    rows = [_row(3, kind=ContentKind.INDEX), _row(2, kind=ContentKind.MANIFEST), _row(1)]
    bounds, moment = StoreLimits(target=0, start=0), Demand(10, held=3000)

    evictions = _evictions(plan(rows, bounds, moment, spares=_keeps, named=_nothing))

    assert [each.entry.kind for each in evictions] == [
        ContentKind.INDEX,
        ContentKind.MANIFEST,
        ContentKind.BLOB,
    ]


def test_age_that_frees_enough_leaves_size_nothing_to_do() -> None:
    """Held is looked at again after the TTL: above the target, but not above the start."""
    rows = [_row(1, takes=1000, used=0), _row(2, takes=2200, used=9)]
    bounds, moment = StoreLimits(ttl=5, target=2000, start=2200), Demand(10, held=3200)

    evictions = _evictions(plan(rows, bounds, moment, spares=_keeps, named=_nothing))

    assert [each.reason for each in evictions] == [Reason.TTL]


def test_a_download_that_does_not_fit_begins_eviction_below_the_start() -> None:
    """It waits: room is made until it, too, is within the target."""
    rows = [_row(number) for number in range(4)]
    bounds = StoreLimits(target=4000, start=4400, room=4800)

    waiting = plan(rows, bounds, Demand(10, 4000, needs=1500), spares=_keeps, named=_nothing)
    fitting = plan(rows, bounds, Demand(10, 4000, needs=800), spares=_keeps, named=_nothing)

    assert (len(list(waiting)), len(list(fitting))) == (2, 0)


def test_age_is_counted_from_the_last_moment_at_which_a_use_may_have_gone_unseen() -> None:
    """The line of its last use may be among those that were lost."""
    rows, bounds = [_row(1, used=0)], StoreLimits(ttl=5)

    early = plan(rows, bounds, Demand(10, 100, blind=6), spares=_keeps, named=_nothing)
    late = plan(rows, bounds, Demand(12, 100, blind=6), spares=_keeps, named=_nothing)

    assert (len(list(early)), len(list(late))) == (0, 1)


def test_an_eviction_for_age_says_how_long_and_how_long_is_allowed() -> None:
    """In the words of who reads the dry run."""
    moment, bounds = Demand(31 * _DAY, 100), StoreLimits(ttl=30 * _DAY)

    (eviction,) = _evictions(plan([_row(1)], bounds, moment, spares=_keeps, named=_nothing))

    assert eviction.words == "not used for 31d, TTL is 30d"


def test_an_eviction_for_size_says_what_is_held_and_how_much_may_be() -> None:
    """As it is at that moment, not as it was when the plan began."""
    rows = [_row(1, takes=20 * _MIB), _row(2, takes=20 * _MIB)]
    bounds = StoreLimits(target=200 * _MIB, start=220 * _MIB, room=240 * _MIB)
    moment = Demand(10, 231 * _MIB, needs=9 * _MIB)

    first, second = _evictions(plan(rows, bounds, moment, spares=_keeps, named=_nothing))

    assert first.words == ("231 MiB used, 9.0 MiB requested, target 200 MiB, least recently used")
    assert second.words.startswith("211 MiB used")


def test_what_was_fetched_ahead_for_nobody_goes_before_what_was_used() -> None:
    """After what is too old, and no more of it than must."""
    old, used, ahead, also = _row(1, used=0), _row(2, used=6), _row(3, used=9), _row(4, used=9)
    bounds, moment = StoreLimits(ttl=5, target=1500, start=2500), Demand(10, held=4000)
    evictions = _evictions(
        plan(
            [old, used, ahead, also],
            bounds,
            moment,
            spares=_keeps,
            named=_nothing,
            unused=lambda: [old, ahead, also],
        )
    )

    assert [each.entry for each in evictions] == [old, ahead, also]
    assert [each.reason for each in evictions] == [Reason.TTL, Reason.SIZE, Reason.SIZE]
    assert evictions[1].words.endswith("prefetched, never requested")


def test_what_was_fetched_ahead_stays_where_there_is_room_or_it_is_spared() -> None:
    """Nobody looks for it then; the least recently used goes in its place."""
    used, ahead = _row(2, used=6), _row(3, used=9)
    short, roomy = StoreLimits(target=1000, start=1500), StoreLimits(target=9000, start=9500)
    looks: list[None] = []

    def unused() -> list[IndexEntry]:
        looks.append(None)
        return [ahead]

    def planned(bounds: StoreLimits) -> list[IndexEntry]:
        steps = plan(
            [used, ahead],
            bounds,
            Demand(10, held=2000),
            spares=lambda digest: digest == ahead.digest,
            named=_nothing,
            unused=unused,
        )
        return [each.entry for each in _evictions(steps)]

    assert (planned(roomy), len(looks)) == ([], 0)
    assert (planned(short), len(looks)) == ([used], 1)
