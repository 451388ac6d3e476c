"""What goes, in which order, and why: decided here, done in `sweep`.

The entries come in the order of eviction, which the index keeps so that a manifest stands before
what it names. Whoever goes along it, and spares with each entry that stays what that one names,
leaves nothing that names what is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from cleaner import words
from datastore.budget import OVERHEAD
from datastore.index import Entry, Kind
from datastore.refs import Digest

Named = Callable[[Digest], Iterable[Digest]]
"""What a manifest names, as the index recorded it."""


class Reason(StrEnum):
    """Why an entry goes: a label of the metrics, hence few."""

    TTL = "ttl"
    SIZE = "size"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What an operator allows: sizes in bytes, None for no limit; `ttl` in s, 0 for none.

    Eviction for size begins when more than `start` is held, or when what is asked for does not
    fit below `room`; it ends at `target`.
    """

    ttl: float = 0
    target: int | None = None
    start: int | None = None
    room: int | None = None


@dataclass(frozen=True, slots=True)
class Moment:
    """What the plan is made for: `held` and, asked for by waiting downloads, `needs`, in bytes.

    `now` is in s, UTC epoch. Uses before `blind` may have gone unseen: ages count from there.
    """

    now: float
    held: int
    needs: int = 0
    blind: float = 0


@dataclass(frozen=True, slots=True)
class Eviction:
    """One entry that goes; `words` say to a person what `reason` says to a metric."""

    entry: Entry
    reason: Reason
    words: str


def plan(
    entries: Iterable[Entry],
    bounds: Bounds,
    moment: Moment,
    *,
    spares: Callable[[Digest], bool],
    named: Named,
) -> Iterator[Eviction]:
    """Yield what goes, least recently used first; reads one entry further than it must.

    First goes what was not used for longer than the TTL, then, if size is short, the least
    recently used until it is not. What *spares* holds back stays, and all that it names.
    """
    stays: set[Digest] = set()
    begun = False
    for entry in entries:
        reason = _reason(entry, bounds, moment, begun=begun)
        if reason is None:
            return
        begun = reason is Reason.SIZE
        if entry.digest in stays or spares(entry.digest):
            stays |= _with_named(entry, named)
            continue
        yield Eviction(entry, reason, _WORDS[reason](entry, bounds, moment))
        moment = replace(moment, held=moment.held - entry.size - OVERHEAD)


def is_short(bounds: Bounds, moment: Moment) -> bool:
    """Whether eviction for size begins: the room above `start` is used, or too small."""
    if bounds.start is not None and moment.held > bounds.start:
        return True
    if bounds.room is None or not moment.needs:
        return False
    return moment.held + moment.needs > bounds.room


def excess(bounds: Bounds, moment: Moment) -> int:
    """Return the bytes that must go until all that is asked for fits below the target."""
    if bounds.target is None:
        return 0
    return max(moment.held + moment.needs - bounds.target, 0)


def closure(digests: Iterable[Digest], named: Named) -> set[Digest]:
    """Return *digests*, what they name, and what those name, to the end."""
    found: set[Digest] = set()
    waiting = list(digests)
    while waiting:
        digest = waiting.pop()
        if digest not in found:
            found.add(digest)
            waiting.extend(named(digest))
    return found


def _reason(entry: Entry, bounds: Bounds, moment: Moment, *, begun: bool) -> Reason | None:
    """Tell why an entry goes; eviction for size, once *begun*, goes on to the target."""
    if bounds.ttl and _idle(entry, moment) > bounds.ttl:
        return Reason.TTL
    short = begun or is_short(bounds, moment)
    return Reason.SIZE if short and excess(bounds, moment) else None


def _with_named(entry: Entry, named: Named) -> set[Digest]:
    return set() if entry.kind is Kind.BLOB else closure([entry.digest], named)


def _idle(entry: Entry, moment: Moment) -> float:
    return moment.now - max(entry.used, moment.blind)


def _words_of_ttl(entry: Entry, bounds: Bounds, moment: Moment) -> str:
    idle, ttl = words.span(_idle(entry, moment)), words.span(bounds.ttl)
    return f"not used for {idle}, TTL is {ttl}"


def _words_of_size(_: Entry, bounds: Bounds, moment: Moment) -> str:
    asked = f", {words.size(moment.needs)} asked for" if moment.needs else ""
    held, target = words.size(moment.held), words.size(bounds.target or 0)
    return f"held {held}{asked}, target {target}, least recently used"


_WORDS = {Reason.TTL: _words_of_ttl, Reason.SIZE: _words_of_size}
