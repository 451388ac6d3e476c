"""Every setting once: its type, default, unit, names and meaning.

The file, the environment, the flags, `entrepot check` and the documentation follow from here.
Values are frozen; spans are in s, sizes in bytes, paths absolute.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from pydantic import Field

from config import kinds
from config.kinds import MOST_WORKERS as MOST_WORKERS
from config.limits import LimitsSettings
from config.section import Section, setting

_FEWEST_WORKERS: Final = 2


def workers_here() -> int:
    """Count the workers that suit this machine: one for each core that we may use, 2 to 16."""
    return min(MOST_WORKERS, max(_FEWEST_WORKERS, len(os.sched_getaffinity(0))))


class LogSettings(Section):
    """The settings of `log:`."""

    level: kinds.Level = setting("info", "what is told: error, warn, info or debug")
    formatter: kinds.Formatter = setting("text", "how it is written: text or json")


class FilesystemSettings(Section):
    """The settings of `storage.filesystem:`."""

    rootdirectory: kinds.File = setting(
        "./data",
        "the data directory",
        env="REGISTRYDIR",
        shown="/var/lib/registry in the image, else ./data",
    )


class DeleteSettings(Section):
    """The settings of `storage.delete:`."""

    enabled: kinds.Switch = setting("false", "may clients DELETE what was pushed")


def _state_beside_data(before: dict[str, Any]) -> Path:
    filesystem: FilesystemSettings = before["filesystem"]
    return filesystem.rootdirectory / "entrepot"


class StorageSettings(Section):
    """The settings of `storage:`."""

    filesystem: FilesystemSettings = Field(default_factory=FilesystemSettings)
    delete: DeleteSettings = Field(default_factory=DeleteSettings)
    statedir: kinds.File = setting(
        _state_beside_data,
        "index, logs and unfinished downloads; a local disk where the data lies on a network",
        env="ENTREPOT_STATEDIR",
        shown="entrepot in the data directory",
    )

    @property
    def rootdirectory(self) -> Path:
        """The data directory."""
        return self.filesystem.rootdirectory


class HtpasswdSettings(Section):
    """`auth.htpasswd:`; that it is there switches passwords on."""

    path: kinds.FileOrAbsent = setting(
        None, "the password file, bcrypt only; watched", shown="none: open to all"
    )
    users: kinds.Users = setting(
        None, "users and their bcrypt hashes, beside the file's; watched", secret=True
    )
    realm: kinds.Text = setting("Entrepot", "the name that clients show when they ask")


class AuthSettings(Section):
    """The settings of `auth:`."""

    htpasswd: HtpasswdSettings | None = None
    anonymous: kinds.Anonymous = setting(
        "none", "what needs no password although there are some: none or pull"
    )


class TlsSettings(Section):
    """The settings of `http.tls:`."""

    certificate: kinds.MaybeFile = setting(
        None, "PEM, the chain too", shown="/certs/certs.pem, if it is there"
    )
    key: kinds.MaybeFile = setting(None, "PEM", shown="in the certificate's file")


class HttpSettings(Section):
    """The settings of `http:`."""

    addr: kinds.Listen = setting(
        "127.0.0.1:5000",
        "address and port",
        shown=":8443 with a certificate; else :5000 in the image, 127.0.0.1:5000 outside",
    )
    tls: TlsSettings = Field(default_factory=TlsSettings)
    draintimeout: kinds.Span = setting(
        "4s", "how long pulls and pushes in flight may go on at a stop; a container has 10 s in all"
    )
    workers: kinds.Workers = setting(
        workers_here,
        "worker processes, 1 to 16",
        env="ENTREPOT_WORKERS",
        shown="one a core, at least 2",
    )


class ProxySettings(Section):
    """`proxy:`, what holds for every upstream that says nothing else."""

    remoteurl: kinds.MaybeUrl = setting(None, "declares this upstream and makes it the default")
    username: kinds.MaybeText = setting(None, "of proxy.remoteurl")
    password: kinds.MaybeText = setting(None, "of proxy.remoteurl", secret=True)
    default: kinds.MaybeHost = setting(
        None,
        "the upstream of names without one (dockerd's mirror form)",
        env="ENTREPOT_DEFAULT_UPSTREAM",
    )
    public: kinds.Switch = setting(
        "true",
        "the public registries are upstreams as long as no upstream is named",
        env="ENTREPOT_PUBLIC_UPSTREAMS",
    )
    freshness: kinds.Span = setting(
        "60s", "how long a tag is served without asking upstream", env="ENTREPOT_FRESHNESS"
    )
    maxstale: kinds.SpanOrNone = setting(
        None,
        "how long after its last check a tag is served while the upstream is away",
        env="ENTREPOT_MAXSTALE",
        shown="none: for ever",
    )
    ongone: kinds.OnGone = setting(
        "refuse", "a tag that the upstream no longer has: refuse or serve", env="ENTREPOT_ONGONE"
    )
    negativettl: kinds.Span = setting(
        "10s", "how long an upstream's 404 is remembered", env="ENTREPOT_NEGATIVE_TTL"
    )
    connecttimeout: kinds.LongerSpan = setting(
        "2s", "until an upstream must have taken the connection", env="ENTREPOT_CONNECT_TIMEOUT"
    )
    readtimeout: kinds.LongerSpan = setting(
        "30s", "until an upstream must have sent something", env="ENTREPOT_READ_TIMEOUT"
    )
    minrate: kinds.Size = setting(
        "10K",
        "bytes a second below which another connection is tried, 0 for never",
        env="ENTREPOT_MIN_RATE",
    )
    redirects: kinds.Redirects = setting(
        "public",
        "where redirects may lead besides an upstream's own network: public, any, or networks",
        env="ENTREPOT_REDIRECTS",
    )
    ranges: kinds.Ranges = setting(
        "auto",
        "whether ranges of an arriving layer wait for its digest: verified, early, or auto",
        env="ENTREPOT_RANGES",
    )
    prefetch: kinds.Layers = setting(
        "3", "layers fetched ahead at a time, 0 for none", env="ENTREPOT_PREFETCH"
    )
    lanes: kinds.Lanes = setting(
        "4", "connections that a layer of 16 MiB or more comes in over", env="ENTREPOT_LANES"
    )


class UpstreamSettings(Section):
    """`upstreams.HOST:`; what is not said comes from `proxy:` or the pull secret."""

    enabled: kinds.Switch = setting("true", "false leaves it out, whatever else names it")
    url: kinds.MaybeUrl = setting(None, "where it is", shown="https://HOST, loopback: http://HOST")
    mirrors: kinds.Urls = setting((), "URLs tried first, in order")
    ca: kinds.MaybeFile = setting(None, "PEM of its private authority")
    insecure: kinds.Switch = setting("false", "do not check its certificate")
    realm: kinds.MaybeRealm = setting(
        None, "the token service that is trusted beside its own host", shown="its own host"
    )
    username: kinds.MaybeText = setting(None, "wins over the pull secret")
    password: kinds.MaybeText = setting(None, "its password", secret=True)
    passwordfile: kinds.MaybeFile = setting(None, "a file that holds nothing but its password")
    freshness: kinds.MaybeSpan = setting(None, "as proxy.freshness", shown="proxy.freshness")
    maxstale: kinds.MaybeSpan = setting(None, "as proxy.maxstale", shown="proxy.maxstale")
    ongone: kinds.MaybeOnGone = setting(None, "as proxy.ongone", shown="proxy.ongone")
    negativettl: kinds.MaybeSpan = setting(None, "as proxy.negativettl", shown="proxy.negativettl")
    connecttimeout: kinds.MaybeLongerSpan = setting(
        None, "as proxy.connecttimeout", shown="proxy.connecttimeout"
    )
    readtimeout: kinds.MaybeLongerSpan = setting(
        None, "as proxy.readtimeout", shown="proxy.readtimeout"
    )
    redirects: kinds.MaybeRedirects = setting(None, "as proxy.redirects", shown="proxy.redirects")
    ranges: kinds.MaybeRanges = setting(None, "as proxy.ranges", shown="proxy.ranges")
    default: kinds.Switch = setting("false", "names without an upstream lead here")


class PullSecretSettings(Section):
    """The settings of `pullsecret:`."""

    path: kinds.MaybeFile = setting(
        None,
        "the pull secret; watched",
        env="PULLSECRETPATH",
        shown="/pull-secret.json, if it is there",
    )
    ignore: kinds.Words = setting(
        "cloud.openshift.com", "hosts of the secret to leave out", env="IGNOREREGISTRYLIST"
    )


class CleanerSettings(Section):
    """The settings of `cleaner:`."""

    maxsize: kinds.Size = setting("10G", "how much is kept, 0 for no limit", env="CLEANER_MAXSIZE")
    ttl: kinds.Span = setting(
        "30d", "what was not used for so long goes, 0 for never", env="CLEANER_TTL"
    )
    threshold: kinds.Percentage = setting(
        "20", "room above the maximum", env="CLEANER_THRESHOLD_PERCENTAGE"
    )
    runevery: kinds.LongerSpan = setting(
        "30m",
        "how often it looks; it is also woken when room is short",
        env="CLEANER_RUNEVERY_TIME",
    )
    hosted: kinds.Switch = setting("false", "may pushed images be evicted", env="CLEANER_HOSTED")
    takeover: kinds.Takeover = setting(
        "auto",
        "what another program left here: auto, evict or keep",
        env="CLEANER_TAKEOVER",
    )
    garbage: kinds.LongerSpan = setting(
        "24h",
        "what was pushed and nothing names goes after so long",
        env="CLEANER_GARBAGE",
    )
    scrub: kinds.Size = setting(
        "50G", "how much stored content is read again each day, 0 for none", env="CLEANER_SCRUB"
    )


class Followed(Section):
    """The configuration file, and what of it is followed while we run: no operator sets these."""

    file: Path | None = None
    access: bool = False
    users: bool = False


class Settings(Section):
    """All of it; `run` is the run directory, known to the children of `entrepot serve` only.

    `adjusted` are the public registries of which flags set something, and which nothing names.
    """

    version: kinds.Version = setting("0.1", "of the file's format")
    log: LogSettings = Field(default_factory=LogSettings)
    storage: StorageSettings = Field(default_factory=StorageSettings)
    auth: AuthSettings = Field(default_factory=AuthSettings)
    access: kinds.AccessRules = setting(
        None, "who may do what where; watched", shown="none: every user may do everything"
    )
    http: HttpSettings = Field(default_factory=HttpSettings)
    proxy: ProxySettings = Field(default_factory=ProxySettings)
    upstreams: dict[kinds.Host, UpstreamSettings] = Field(default_factory=dict)
    pullsecret: PullSecretSettings = Field(default_factory=PullSecretSettings)
    cleaner: CleanerSettings = Field(default_factory=CleanerSettings)
    limits: LimitsSettings = Field(default_factory=LimitsSettings)
    hosted: kinds.HostedRules = setting((), "how long what is pushed stays, by repository")
    followed: Followed = Field(default_factory=Followed)
    adjusted: tuple[str, ...] = Field(default=())
    run: Path = Field(default=Path(), exclude=True)
