"""How long what was pushed stays: a rule for each repository, and what it says of an image."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from entrepot.cleaner import readable_units
from entrepot.cleaner.hosted.images import HostedImage
from entrepot.cleaner.reasons import Explanation, Reason
from entrepot.datastore.globs import Globs
from entrepot.datastore.refs import Repository

_UNTAGGED_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class RetentionRule:
    """What may go of a repository: `ttl` and `untagged` are s, 0 for never.

    `keep` is how many of the newest tags stay, whatever else is said; without a TTL all others
    go at once. `is_evictable`: what may go may also go when room is short.
    """

    ttl: float = 0
    keep: int = 0
    untagged: float = 0
    is_evictable: bool = False

    @property
    def is_idle(self) -> bool:
        """Whether nothing ever goes by it."""
        return not (self.ttl or self.keep or self.untagged or self.is_evictable)

    def keeps(self, image: HostedImage) -> bool:
        """Whether an image is among the newest that stay."""
        return image.place is not None and image.place < self.keep


def rule(ttl: float, keep: int, untagged: float | None, *, is_evictable: bool) -> RetentionRule:
    """Make a rule of what was said.

    Where tags go, what lost its tag goes after a day, or with the TTL if that is shorter, unless
    *untagged* says otherwise. Where nothing goes, nothing is evicted either.
    """
    if untagged is None:
        untagged = _grace(ttl) if ttl or keep else 0
    return RetentionRule(ttl, keep, untagged, is_evictable=is_evictable and bool(ttl or keep))


def everything(ttl: float) -> RetentionRule:
    """Make the rule by which pushed images go as pulled ones do, by age and for room."""
    return RetentionRule(ttl, 0, _grace(ttl), is_evictable=True)


class RetentionRules:
    """The rule of each repository: of the patterns that fit its name, the longest counts.

    *otherwise* is the rule of all other names. Raises: InvalidRepository.
    """

    def __init__(
        self,
        rules: Iterable[tuple[str, RetentionRule]] = (),
        otherwise: RetentionRule = RetentionRule(),
    ) -> None:
        ordered = sorted(rules, key=lambda pair: (-len(pair[0]), pair[0]))
        self._rules = [(Globs([pattern]), rule) for pattern, rule in ordered]
        self._otherwise = otherwise

    @property
    def are_idle(self) -> bool:
        """Whether nothing ever goes by them."""
        return self._otherwise.is_idle and all(rule.is_idle for _, rule in self._rules)

    def of(self, name: Repository) -> RetentionRule:
        """Return the rule of a repository."""
        fitting = (rule for globs, rule in self._rules if name in globs)
        return next(fitting, self._otherwise)

    def shortest(self) -> float:
        """Return the shortest time after which something goes, in s; 0 for never."""
        rules = [self._otherwise, *(rule for _, rule in self._rules)]
        spans = [span for rule in rules for span in (rule.ttl, rule.untagged) if span]
        return min(spans, default=0)


def _grace(ttl: float) -> float:
    return min(_UNTAGGED_S, ttl or _UNTAGGED_S)


def expiry(image: HostedImage, rule: RetentionRule, idle: float) -> Explanation | None:
    """Tell why an image goes that was not used for *idle* s, if its rule says that it does."""
    if rule.keeps(image):
        return None
    if not image.tags and rule.untagged and idle > rule.untagged:
        grace = readable_units.span(rule.untagged)
        return Explanation(
            Reason.UNTAGGED, f"untagged, not used for {readable_units.span(idle)}, grace is {grace}"
        )
    if rule.ttl and idle > rule.ttl:
        ttl = readable_units.span(rule.ttl)
        return Explanation(Reason.TTL, f"not used for {readable_units.span(idle)}, TTL is {ttl}")
    if image.tags and rule.keep and not rule.ttl:
        newest = "newest tag" if rule.keep == 1 else f"{rule.keep} newest tags"
        return Explanation(Reason.KEEP, f"not among the {newest}")
    return None
