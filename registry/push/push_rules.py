"""Check pushed manifests against docker distribution's settings `validation:` and `policy:`.

If no rule is configured, a worker has no `PushRules`, and this module checks nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from entrepot.datastore.content import StoredManifest
from entrepot.datastore.errors import InvalidManifest
from entrepot.datastore.index import ContentKind
from entrepot.datastore.manifest import Descriptor
from entrepot.registry.errors import Forbidden

_LONGEST_URL: Final = 4096
# The table of classes is that of docker distribution, registry/handlers/manifests.go,
# applyResourcePolicy.
_CLASSES: Final = {
    "application/vnd.docker.container.image.v1+json": "image",
    "application/vnd.oci.image.config.v1+json": "image",
    "application/vnd.docker.plugin.v1+json": "plugin",
}

Platform = tuple[str, str]
"""A `Platform` is an operating system and an architecture, as in the OCI image-spec."""


@dataclass(frozen=True, slots=True)
class PushRules:
    """A `PushRules` holds the rules for pushed manifests.

    `may_name` returns whether a layer may have a given URL; if it is None, a layer may have any
    URL. Before an index is pushed, its images for `platforms` must be stored; if `platforms` is
    None, all of its images must be stored. `classes` are the kinds of manifests that may be pushed,
    `image` or `plugin`; if `classes` is empty, all kinds may be pushed.
    """

    may_name: Callable[[str], bool] | None = None
    platforms: frozenset[Platform] | None = None
    classes: frozenset[str] = frozenset()

    def check(self, pushed: StoredManifest) -> None:
        """Check a manifest against the rules. Raises: InvalidManifest, Forbidden."""
        if self.classes and pushed.manifest.kind is ContentKind.MANIFEST:
            self._check_class(pushed.manifest.descriptors[0].media_type)
        if self.may_name is not None:
            for url in (url for each in pushed.manifest.descriptors for url in each.urls):
                if not is_web_url(url) or not self.may_name(url):
                    reason = "validation.manifests.urls does not allow this URL of a layer"
                    raise InvalidManifest(url, reason)

    def required(self, pushed: StoredManifest) -> list[Descriptor]:
        """Return the parts that the repository must have before it accepts the manifest."""
        parts = pushed.manifest.descriptors
        if self.platforms is not None and pushed.manifest.kind is ContentKind.INDEX:
            listed = json.loads(pushed.body)["manifests"]
            parts = tuple(
                part
                for part, raw in zip(parts, listed, strict=True)
                if _platform(raw.get("platform")) in self.platforms
            )
        return [each for each in parts if not each.is_elsewhere]

    def _check_class(self, media_type: str) -> None:
        found = _CLASSES.get(media_type)
        if found is None:
            raise Forbidden(f"unknown manifest class for {media_type[:128]}")
        if found not in self.classes:
            raise Forbidden(f"registry does not allow {found} manifest")


def is_web_url(text: str) -> bool:
    """Return whether *text* is an http(s) URL of at most 4096 characters without a fragment."""
    if len(text) > _LONGEST_URL:
        return False
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and not parts.fragment


def url_predicate(
    allow: Callable[[str], bool] | None, deny: Callable[[str], bool] | None
) -> Callable[[str], bool]:
    """Return a predicate of URLs: *allow* (None: all) must match, and *deny* must not match."""
    return lambda url: (allow is None or allow(url)) and not (deny is not None and deny(url))


def platforms(given: Iterable[Platform]) -> frozenset[Platform] | None:
    """Return the given platforms; if there are none, return None, which means all platforms."""
    return frozenset(given) or None


def _platform(given: object) -> Platform | None:
    if not isinstance(given, dict):
        return None
    return str(given.get("os")), str(given.get("architecture"))
