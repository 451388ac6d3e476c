"""Decide by retention rules which images of hosted repositories expire."""

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
    """A `RetentionRule` states when the images of a repository expire.

    An image expires if it was not used for `ttl` seconds. An image without a tag also expires if it
    was not used for `untagged` seconds. 0 means that images do not expire for this reason.

    The images of the `keep` newest tags never expire. If `keep` is set and `ttl` is not, all other
    tagged images expire immediately. If `is_evictable` is set, images that `keep` does not protect
    are also evicted when space is short.
    """

    ttl: float = 0
    keep: int = 0
    untagged: float = 0
    is_evictable: bool = False

    @property
    def is_idle(self) -> bool:
        """Return whether the rule never removes an image."""
        return not (self.ttl or self.keep or self.untagged or self.is_evictable)

    def keeps(self, image: HostedImage) -> bool:
        """Return whether an image has one of the `keep` newest tags, so that it never expires."""
        return image.place is not None and image.place < self.keep


def rule(ttl: float, keep: int, untagged: float | None, *, is_evictable: bool) -> RetentionRule:
    """Return the rule for the settings `ttl`, `keep` and `untagged` of a repository.

    If *untagged* is None and tagged images can expire, untagged images expire after a day, or after
    the TTL if that is shorter. If tagged images never expire, no image of the repository is evicted
    for lack of space.
    """
    if untagged is None:
        untagged = _grace(ttl) if ttl or keep else 0
    return RetentionRule(ttl, keep, untagged, is_evictable=is_evictable and bool(ttl or keep))


def everything(ttl: float) -> RetentionRule:
    """Return the rule that evicts hosted images by age and size, as proxied content is evicted."""
    return RetentionRule(ttl, 0, _grace(ttl), is_evictable=True)


class RetentionRules:
    """A `RetentionRules` has the rules of all repositories.

    *rules* has pairs of a pattern and a rule. If several patterns match the name of a repository,
    the rule of the longest pattern applies. If no pattern matches, *otherwise* applies. Raises:
    InvalidRepository for a malformed pattern.
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
        """Return whether no rule ever removes an image."""
        return self._otherwise.is_idle and all(rule.is_idle for _, rule in self._rules)

    def of(self, name: Repository) -> RetentionRule:
        """Return the rule of a repository."""
        fitting = (rule for globs, rule in self._rules if name in globs)
        return next(fitting, self._otherwise)

    def shortest(self) -> float:
        """Return the shortest idle time after which an image expires (s); 0 if there is none."""
        rules = [self._otherwise, *(rule for _, rule in self._rules)]
        times = [time for rule in rules for time in (rule.ttl, rule.untagged) if time]
        return min(times, default=0)


def _grace(ttl: float) -> float:
    return min(_UNTAGGED_S, ttl or _UNTAGGED_S)


def expiry(image: HostedImage, rule: RetentionRule, idle: float) -> Explanation | None:
    """Return why an image that was not used for *idle* seconds expires; None if it does not."""
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
