"""`plan` decides which content is evicted, in which order, and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entrepot.cleaner.policy import Demand, Eviction, Reason, Step, StoreLimits, closure, plan
from entrepot.datastore.budget import OVERHEAD
from entrepot.datastore.index import ContentKind, Cursor, IndexEntry
from entrepot.datastore.refs import Digest

# The machine may be busy, so an example has no deadline.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

_DAY = 86400.0
_MIB = 1024 * 1024


def _digest(number: int) -> Digest:
    return Digest("sha256", f"{number:064x}")


def _cost(entries: Iterable[IndexEntry]) -> int:
    """Return the used bytes of *entries*, including the overhead of each row."""
    return sum(entry.size + OVERHEAD for entry in entries)


def _evictions(steps: Iterable[Step]) -> list[Eviction]:
    return [eviction for step in steps for eviction in step.evictions]


@dataclass(frozen=True)
class Store:
    """An index for a plan: entries in the order of eviction, parts, and digests not to evict."""

    entries: tuple[IndexEntry, ...]
    names: Mapping[Digest, tuple[Digest, ...]]
    spared: frozenset[Digest] = frozenset()

    def named(self, digest: Digest) -> tuple[Digest, ...]:
        """Return the digests of the parts of a manifest."""
        return self.names.get(digest, ())

    def held(self) -> int:
        """Return the used bytes of all entries."""
        return _cost(self.entries)

    def plan(self, bounds: StoreLimits, moment: Demand) -> list[Eviction]:
        """Return the evictions that the policy plans for this index."""
        spares = self.spared.__contains__
        return _evictions(plan(self.entries, bounds, moment, spares=spares, named=self.named))


@st.composite
def stores(draw: st.DrawFn) -> Store:
    """Draw an index in which the last use of a part is never earlier than that of its manifest."""
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
    return Store(tuple(sorted(entries, key=Cursor.after)), names, frozenset(spared))


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
@given(stores(), _bounds, _sizes)
def test_no_kept_manifest_names_evicted_content(
    drawn: Store, bounds: StoreLimits, needs: int
) -> None:
    """If a manifest stays, everything that it references stays too."""
    evictions = drawn.plan(bounds, Demand(10, drawn.held(), needs))

    evicted = {eviction.entry.digest for eviction in evictions}
    left = {entry.digest for entry in drawn.entries} - evicted
    assert not closure(left, drawn.named) & evicted


@unhurried
@given(stores(), _bounds, _sizes)
def test_a_spared_manifest_keeps_its_parts(drawn: Store, bounds: StoreLimits, needs: int) -> None:
    """If a manifest must stay, neither it nor anything that it references is evicted."""
    evictions = drawn.plan(bounds, Demand(10, drawn.held(), needs))

    evicted = {eviction.entry.digest for eviction in evictions}
    assert not closure(drawn.spared, drawn.named) & evicted


@unhurried
@given(stores(), _bounds, _sizes)
def test_eviction_for_size_reaches_the_target_or_evicts_all_but_spared(
    drawn: Store, bounds: StoreLimits, needs: int
) -> None:
    """Eviction for size continues until used bytes and waiting downloads fit the target.

    It ends earlier only if all remaining content must stay.
    """
    evictions = drawn.plan(bounds, Demand(10, drawn.held(), needs))

    if any(eviction.reason is Reason.SIZE for eviction in evictions):
        evicted = {eviction.entry.digest for eviction in evictions}
        left = [entry for entry in drawn.entries if entry.digest not in evicted]
        kept = closure(drawn.spared, drawn.named)
        fits = _cost(left) + needs <= (bounds.target or 0)
        assert fits or all(entry.digest in kept for entry in left)


@unhurried
@given(stores(), _bounds, _sizes)
def test_eviction_for_size_stops_at_the_target(
    drawn: Store, bounds: StoreLimits, needs: int
) -> None:
    """Eviction for size ends as soon as used bytes and waiting downloads fit the target."""
    evictions = drawn.plan(bounds, Demand(10, drawn.held(), needs))

    if evictions and evictions[-1].reason is Reason.SIZE:
        before = _cost(eviction.entry for eviction in evictions[:-1])
        assert drawn.held() - before + needs > (bounds.target or 0)


@unhurried
@given(stores(), _bounds, _sizes)
def test_the_least_recently_used_entries_are_evicted_first(
    drawn: Store, bounds: StoreLimits, needs: int
) -> None:
    """Entries are evicted in the order of their last use, except those that must stay."""
    evictions = drawn.plan(bounds, Demand(10, drawn.held(), needs))

    kept = closure(drawn.spared, drawn.named)
    free = [entry for entry in drawn.entries if entry.digest not in kept]
    evicted = [eviction.entry for eviction in evictions]
    assert evicted == free[: len(evicted)]


@unhurried
@given(stores(), _bounds)
def test_eviction_for_size_does_not_begin_below_the_start(
    drawn: Store, bounds: StoreLimits
) -> None:
    """While the used bytes are at most `start`, no content is evicted for size."""
    roomy = replace(bounds, start=drawn.held(), room=drawn.held())

    evictions = drawn.plan(roomy, Demand(10, drawn.held()))

    assert all(eviction.reason is Reason.TTL for eviction in evictions)


@unhurried
@given(stores(), st.integers(1, 10))
def test_without_a_size_limit_exactly_the_expired_entries_are_evicted(
    drawn: Store, ttl: int
) -> None:
    """Without a limit of size, exactly the entries that exceed the TTL are evicted."""
    evictions = drawn.plan(StoreLimits(ttl=ttl), Demand(10, drawn.held()))

    kept = closure(drawn.spared, drawn.named)
    old = [entry for entry in drawn.entries if 10 - entry.used > ttl]
    assert [e.entry for e in evictions] == [entry for entry in old if entry.digest not in kept]


def _row(
    number: int, *, takes: int = 1000, kind: ContentKind = ContentKind.BLOB, used: float = 0
) -> IndexEntry:
    return IndexEntry(_digest(number), takes - OVERHEAD, kind, used)


def _nothing(_: Digest) -> Iterable[Digest]:
    return ()


def _keeps(_: Digest) -> bool:
    return False


def test_the_plan_reads_one_entry_after_the_last_eviction() -> None:
    """To plan a hundred evictions among a million entries, the policy reads only 101 entries."""
    read = 0

    def rows() -> Iterator[IndexEntry]:
        nonlocal read
        for number in range(1_000_000):
            read += 1
            yield _row(number)

    bounds, moment = StoreLimits(target=900_000, start=950_000), Demand(10, held=1_000_000)
    evictions = list(plan(rows(), bounds, moment, spares=_keeps, named=_nothing))

    assert (len(evictions), read) == (100, 101)


def test_at_equal_times_indexes_precede_manifests_and_manifests_their_parts() -> None:
    """If the last uses are equal, indexes are evicted before manifests, and these before blobs."""
    rows = [_row(3, kind=ContentKind.INDEX), _row(2, kind=ContentKind.MANIFEST), _row(1)]
    bounds, moment = StoreLimits(target=0, start=0), Demand(10, held=3000)

    evictions = _evictions(plan(rows, bounds, moment, spares=_keeps, named=_nothing))

    assert [each.entry.kind for each in evictions] == [
        ContentKind.INDEX,
        ContentKind.MANIFEST,
        ContentKind.BLOB,
    ]


def test_eviction_for_size_counts_expired_entries_as_gone() -> None:
    """If evictions for age free enough space, nothing is evicted for size."""
    rows = [_row(1, takes=1000, used=0), _row(2, takes=2200, used=9)]
    bounds, moment = StoreLimits(ttl=5, target=2000, start=2200), Demand(10, held=3200)

    evictions = _evictions(plan(rows, bounds, moment, spares=_keeps, named=_nothing))

    assert [each.reason for each in evictions] == [Reason.TTL]


def test_a_waiting_download_begins_eviction_below_the_start() -> None:
    """If a waiting download does not fit below the cap, eviction begins even below `start`.

    The eviction ends when used bytes and the download fit the target.
    """
    rows = [_row(number) for number in range(4)]
    bounds = StoreLimits(target=4000, start=4400, room=4800)

    waiting = plan(rows, bounds, Demand(10, 4000, needs=1500), spares=_keeps, named=_nothing)
    fitting = plan(rows, bounds, Demand(10, 4000, needs=800), spares=_keeps, named=_nothing)

    assert (len(list(waiting)), len(list(fitting))) == (2, 0)


def test_ages_count_from_the_last_loss_of_log_lines() -> None:
    """If log lines were lost, content counts as used at the time of this loss."""
    rows, bounds = [_row(1, used=0)], StoreLimits(ttl=5)

    early = plan(rows, bounds, Demand(10, 100, blind=6), spares=_keeps, named=_nothing)
    late = plan(rows, bounds, Demand(12, 100, blind=6), spares=_keeps, named=_nothing)

    assert (len(list(early)), len(list(late))) == (0, 1)


def test_an_eviction_for_age_gives_idle_time_and_ttl() -> None:
    """The text about an eviction for age states the time since the last use, and the TTL."""
    moment, bounds = Demand(31 * _DAY, 100), StoreLimits(ttl=30 * _DAY)

    (eviction,) = _evictions(plan([_row(1)], bounds, moment, spares=_keeps, named=_nothing))

    assert eviction.words == "not used for 31d, TTL is 30d"


def test_an_eviction_for_size_gives_used_bytes_and_target() -> None:
    """The text about an eviction for size states used bytes, requested bytes and target.

    The used bytes do not include the content of earlier evictions.
    """
    rows = [_row(1, takes=20 * _MIB), _row(2, takes=20 * _MIB)]
    bounds = StoreLimits(target=200 * _MIB, start=220 * _MIB, room=240 * _MIB)
    moment = Demand(10, 231 * _MIB, needs=9 * _MIB)

    first, second = _evictions(plan(rows, bounds, moment, spares=_keeps, named=_nothing))

    assert first.words == ("231 MiB used, 9.0 MiB requested, target 200 MiB, least recently used")
    assert second.words.startswith("211 MiB used")


def test_unused_prefetched_layers_are_evicted_first() -> None:
    """While space is short, unused prefetched layers are evicted before all other entries.

    Only entries that exceed the TTL are evicted earlier.
    """
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


def test_prefetched_layers_stay_if_space_suffices_or_they_are_spared() -> None:
    """Unused prefetched layers stay if there is enough space, or if the caller spares them.

    If there is enough space, the list of these layers is not even read.
    """
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
