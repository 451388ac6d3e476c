"""What an operator said about one upstream, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

OnGone = Literal["refuse", "serve"]
Ranges = Literal["auto", "verified", "early"]


@dataclass(frozen=True, slots=True)
class UpstreamConfig:
    """One upstream: `host` is the name that clients use, with its port if it has one.

    Spans are in s, `min_rate` in bytes/s. `max_stale` None: for ever. `realm` is the one token
    realm that is trusted beside the upstream's own host. `username` and `password` win over the
    pull secret. `redirects` are the networks that its answers may lead to beside public addresses;
    `any` means all. `ranges` tells when a range of an unverified blob completes
    (`registry.download.verify.is_early`).
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
