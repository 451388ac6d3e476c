"""Define the settings of one upstream, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

OnGone = Literal["refuse", "serve"]
Ranges = Literal["auto", "verified", "early"]


@dataclass(frozen=True, slots=True)
class UpstreamConfig:
    """An `UpstreamConfig` holds an upstream's settings: times in seconds, `min_rate` in bytes/s.

    `host` is the name that clients use, including its port, if any. If `max_stale` is None, stale
    manifests are served regardless of their age. `realm` is a token realm that is trusted in
    addition to those of the upstream's own host and the known realms
    (registry/upstream/challenge.py). `username` and `password` take precedence over the pull
    secret. `redirects` are networks to which responses may redirect, besides public addresses;
    `any` permits all networks. `ranges` determines whether the last bytes of a range are sent
    before the whole blob is verified (`registry.download.verify.is_early`). A path in `url` begins
    every repository name (as Harbor's proxy projects require), or precedes `/v2/` if `path_first`
    is set. `helper` is a program that outputs the login, which is used for `helper_lifetime`
    seconds (None means for ever; 0 means for one request).
    """

    host: str
    url: str
    mirrors: tuple[str, ...] = ()
    ca: Path | None = None
    insecure: bool = False
    realm: str | None = None
    username: str | None = None
    password: str | None = None
    password_file: Path | None = None
    freshness: float = 60.0
    max_stale: float | None = None
    on_gone: OnGone = "refuse"
    negative_ttl: float = 10.0
    connect_timeout: float = 2.0
    read_timeout: float = 30.0
    min_rate: int = 10 * 1024
    redirects: tuple[str, ...] = ("public",)
    ranges: Ranges = "auto"
    path_first: bool = False
    helper: str | None = None
    helper_lifetime: float | None = None
