"""Define the schema of the settings: type, default, unit, names and meaning of each.

This module is the source of the keys of the file, the variables, the flags, the output of `entrepot
check` and the tables of the documentation. Values of settings are immutable; spans are in s, sizes
in bytes, paths absolute.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from entrepot.config import value_types
from entrepot.config.health_settings import HealthSettings
from entrepot.config.http_settings import HttpSettings
from entrepot.config.http_settings import TlsSettings as TlsSettings
from entrepot.config.limits import LimitsSettings
from entrepot.config.log_settings import LogSettings
from entrepot.config.middleware_settings import MiddlewareSettings
from entrepot.config.notifications import NotificationEndpoint
from entrepot.config.push_settings import PolicySettings, ValidationSettings
from entrepot.config.reporting_settings import ReportingSettings
from entrepot.config.section import Section, setting
from entrepot.config.storage_settings import StorageSettings
from entrepot.config.value_types import MOST_WORKERS as MOST_WORKERS


class HtpasswdSettings(Section):
    """The settings of `auth.htpasswd:`.

    The presence of the section `htpasswd` switches passwords on.
    """

    path: value_types.FileOrAbsent = setting(
        None,
        "the password file, bcrypt only; changes take effect without a restart",
        shown="none: open to all",
    )
    users: value_types.Users = setting(
        None,
        "users and bcrypt hashes beside those in the file; changes take effect without a restart",
        secret=True,
    )
    realm: value_types.Text = setting("Entrepot", "the name that clients show in a password prompt")
    token: value_types.Switch = setting(
        "false",
        "whether clients log in at a token endpoint of the appliance, /v2/token, so that docker and"
        " podman both log in and pull anonymously",
    )


class TokenSettings(Section):
    """The settings of `auth.token:`. If the section `token` is present, requests need tokens."""

    realm: value_types.MaybeText = setting(None, "the URL of the token server", shown="required")
    service: value_types.MaybeText = setting(
        None, "the name of this registry, which is the audience of its tokens", shown="required"
    )
    issuer: value_types.MaybeText = setting(
        None, "the issuer that the tokens name", shown="required"
    )
    rootcertbundle: value_types.MaybeFile = setting(
        None,
        "PEM file of certificates that sign tokens, or that issue such certificates; changes take"
        " effect without a restart",
    )
    jwks: value_types.MaybeFile = setting(
        None,
        "JSON Web Key Set of keys that sign tokens; changes take effect without a restart",
    )
    signingalgorithms: value_types.SigningAlgorithms = setting(
        (), "the accepted algorithms of signatures", shown="EdDSA, RS, PS and ES with 256 to 512"
    )
    autoredirect: value_types.Switch = setting(
        "false", "whether the realm is at the host that the client used"
    )
    autoredirectpath: value_types.Text = setting(
        "/auth/token", "the path of the realm if autoredirect is true"
    )


class SillySettings(Section):
    """The settings of `auth.silly:`, which accepts every Authorization header."""

    realm: value_types.MaybeText = setting(None, "the realm of the challenge", shown="required")
    service: value_types.MaybeText = setting(None, "the service of the challenge", shown="required")


class AuthSettings(Section):
    """The settings of `auth:`; at most one scheme is set."""

    htpasswd: HtpasswdSettings | None = None
    token: TokenSettings | None = None
    silly: SillySettings | None = None
    anonymous: value_types.Anonymous = setting(
        "none", "what clients may do without a password if users exist: none or pull"
    )

    @property
    def protects(self) -> bool:
        """Return whether each client needs a credential that the operator has issued."""
        return self.htpasswd is not None or self.token is not None


class CatalogSettings(Section):
    """The settings of `catalog:`."""

    maxentries: value_types.PageSize = setting(
        "1000", "the most repositories in a page of /v2/_catalog; 100 if the client sets no n"
    )


class TagsSettings(Section):
    """The settings of `tags:`."""

    maxtags: value_types.PageSize = setting(
        "1000", "the most tags in a page of tags/list; all if the client sets no n"
    )


class ExecSettings(Section):
    """The settings of `proxy.exec:`."""

    command: value_types.MaybeText = setting(
        None, "a credential helper of Docker that has the login for proxy.remoteurl"
    )
    lifetime: value_types.MaybeSpan = setting(
        None,
        "how long the helper's login is used, 0 for one request",
        shown="none: until a restart",
    )


class ProxySettings(Section):
    """The settings of `proxy:`, the defaults for upstreams that do not override them."""

    remoteurl: value_types.MaybeUrl = setting(
        None, "the URL of an upstream, which this key declares and makes the default"
    )
    username: value_types.MaybeText = setting(None, "of proxy.remoteurl")
    password: value_types.MaybeText = setting(None, "of proxy.remoteurl", secret=True)
    exec: ExecSettings = Field(default_factory=ExecSettings)
    default: value_types.MaybeHost = setting(
        None,
        "the upstream for repository names without a host (as dockerd sends them to a mirror)",
        env="ENTREPOT_DEFAULT_UPSTREAM",
    )
    public: value_types.Switch = setting(
        "true",
        "whether the public registries are upstreams if no upstream is configured",
        env="ENTREPOT_PUBLIC_UPSTREAMS",
    )
    freshness: value_types.Span = setting(
        "60s", "how long a tag is served without revalidation", env="ENTREPOT_FRESHNESS"
    )
    maxstale: value_types.SpanOrNone = setting(
        None,
        "how long after its last revalidation a tag is served while the upstream is unavailable",
        env="ENTREPOT_MAXSTALE",
        shown="none: no limit",
    )
    ongone: value_types.OnGone = setting(
        "refuse",
        "what to do with a tag that the upstream has deleted: refuse or serve",
        env="ENTREPOT_ONGONE",
    )
    negativettl: value_types.Span = setting(
        "10s", "how long an upstream's 404 is cached", env="ENTREPOT_NEGATIVE_TTL"
    )
    connecttimeout: value_types.LongerSpan = setting(
        "2s", "timeout for connecting to an upstream", env="ENTREPOT_CONNECT_TIMEOUT"
    )
    readtimeout: value_types.LongerSpan = setting(
        "30s", "the longest wait for the next bytes of an upstream", env="ENTREPOT_READ_TIMEOUT"
    )
    minrate: value_types.Size = setting(
        "10K",
        "rate in bytes/s below which a download is retried over another connection, 0 for never",
        env="ENTREPOT_MIN_RATE",
    )
    redirects: value_types.Redirects = setting(
        "public",
        "targets of redirects that are allowed beside the upstream's own network: public, any, or"
        " networks",
        env="ENTREPOT_REDIRECTS",
    )
    ranges: value_types.Ranges = setting(
        "auto",
        "whether range requests for a layer in download wait for its digest: verified, early, or"
        " auto",
        env="ENTREPOT_RANGES",
    )
    prefetch: value_types.Layers = setting(
        "3", "layers prefetched in parallel, 0 for no prefetch", env="ENTREPOT_PREFETCH"
    )
    lanes: value_types.Lanes = setting(
        "4", "parallel connections for a layer of 16 MiB or more, 1 to 16", env="ENTREPOT_LANES"
    )


class UpstreamSettings(Section):
    """The settings of `upstreams.HOST:`.

    `proxy:` and the pull secret complete the settings of an upstream.
    """

    enabled: value_types.Switch = setting(
        "true", "false removes the upstream, even if the pull secret names it"
    )
    url: value_types.MaybeUrl = setting(
        None, "its base URL", shown="https://HOST, loopback: http://HOST"
    )
    mirrors: value_types.Urls = setting(
        (), "URLs of mirrors that are tried before the upstream, in order"
    )
    ca: value_types.MaybeFile = setting(
        None, "PEM file of the upstream's private certificate authority"
    )
    insecure: value_types.Switch = setting(
        "false", "whether the upstream's certificate is not verified"
    )
    realm: value_types.MaybeRealm = setting(
        None,
        "the token service that is trusted beside the upstream's own host",
        shown="its own host",
    )
    username: value_types.MaybeText = setting(
        None, "the user's name, which takes precedence over the pull secret"
    )
    password: value_types.MaybeText = setting(None, "its password", secret=True)
    passwordfile: value_types.MaybeFile = setting(
        None, "a file that contains only the upstream's password"
    )
    freshness: value_types.MaybeSpan = setting(None, "as proxy.freshness", shown="proxy.freshness")
    maxstale: value_types.MaybeSpan = setting(None, "as proxy.maxstale", shown="proxy.maxstale")
    ongone: value_types.MaybeOnGone = setting(None, "as proxy.ongone", shown="proxy.ongone")
    negativettl: value_types.MaybeSpan = setting(
        None, "as proxy.negativettl", shown="proxy.negativettl"
    )
    connecttimeout: value_types.MaybeLongerSpan = setting(
        None, "as proxy.connecttimeout", shown="proxy.connecttimeout"
    )
    readtimeout: value_types.MaybeLongerSpan = setting(
        None, "as proxy.readtimeout", shown="proxy.readtimeout"
    )
    redirects: value_types.MaybeRedirects = setting(
        None, "as proxy.redirects", shown="proxy.redirects"
    )
    ranges: value_types.MaybeRanges = setting(None, "as proxy.ranges", shown="proxy.ranges")
    default: value_types.Switch = setting(
        "false", "whether repository names without a host belong to this upstream"
    )


class PullSecretSettings(Section):
    """The settings of `pullsecret:`."""

    path: value_types.MaybeFile = setting(
        None,
        "the pull secret; changes take effect without a restart",
        env="PULLSECRETPATH",
        shown="/pull-secret.json, if it exists",
    )
    ignore: value_types.Words = setting(
        "cloud.openshift.com", "hosts of the pull secret that are ignored", env="IGNOREREGISTRYLIST"
    )


class CleanerSettings(Section):
    """The settings of `cleaner:`."""

    maxsize: value_types.Size = setting(
        "10G", "size that eviction reduces the store to, 0 for no limit", env="CLEANER_MAXSIZE"
    )
    ttl: value_types.Span = setting(
        "30d", "content that is unused for this long is evicted, 0 for never", env="CLEANER_TTL"
    )
    threshold: value_types.Percentage = setting(
        "20", "how far the store may exceed maxsize", env="CLEANER_THRESHOLD_PERCENTAGE"
    )
    runevery: value_types.LongerSpan = setting(
        "30m",
        "interval of eviction; low disk space also starts an eviction",
        env="CLEANER_RUNEVERY_TIME",
    )
    hosted: value_types.Switch = setting(
        "false", "whether pushed images may be evicted", env="CLEANER_HOSTED"
    )
    takeover: value_types.Takeover = setting(
        "auto",
        "what to do with content that another registry left in the data directory: auto, evict or"
        " keep",
        env="CLEANER_TAKEOVER",
    )
    garbage: value_types.LongerSpan = setting(
        "24h",
        "pushed content that no manifest or tag references is deleted after this time",
        env="CLEANER_GARBAGE",
    )
    scrub: value_types.Size = setting(
        "50G", "how much stored content is verified each day, 0 for none", env="CLEANER_SCRUB"
    )


class EventsSettings(Section):
    """The settings of `notifications.events:`."""

    includereferences: value_types.Switch = setting(
        "false", "whether an event of a manifest lists the manifest's parts"
    )


class NotificationsSettings(Section):
    """The settings of `notifications:`."""

    events: EventsSettings = Field(default_factory=EventsSettings)
    endpoints: value_types.Endpoints = setting(
        (), "receivers of the events of pulls, pushes, mounts and deletions", secret=True
    )

    @property
    def active(self) -> tuple[NotificationEndpoint, ...]:
        """The endpoints that are not disabled."""
        return tuple(each for each in self.endpoints if not each.disabled)


class Followed(Section):
    """A `Followed` has the configuration file, and the parts of it that are reread at run time.

    Operators can't set a `Followed`.

    `access` and `users` state whether the rules and the users come from the file, and not from a
    flag or variable.
    """

    file: Path | None = None
    access: bool = False
    users: bool = False


class Settings(Section):
    """A `Settings` has all settings.

    `run` is the run directory; only the children of `entrepot serve` know the run directory.

    `adjusted` lists the public registries whose single settings flags or variables change, and that
    have no section in the file.
    """

    version: value_types.Version = setting("0.1", "the version of the file's format")
    log: LogSettings = Field(default_factory=LogSettings)
    storage: StorageSettings = Field(default_factory=StorageSettings)
    auth: AuthSettings = Field(default_factory=AuthSettings)
    access: value_types.AccessRules = setting(
        None,
        "rules: which users may pull, push or delete in which repositories; changes take effect"
        " without a restart",
        shown="none: every user may do everything",
    )
    middleware: MiddlewareSettings = Field(default_factory=MiddlewareSettings)
    reporting: ReportingSettings = Field(default_factory=ReportingSettings)
    http: HttpSettings = Field(default_factory=HttpSettings)
    health: HealthSettings = Field(default_factory=HealthSettings)
    catalog: CatalogSettings = Field(default_factory=CatalogSettings)
    tags: TagsSettings = Field(default_factory=TagsSettings)
    validation: ValidationSettings = Field(default_factory=ValidationSettings)
    policy: PolicySettings = Field(default_factory=PolicySettings)
    proxy: ProxySettings = Field(default_factory=ProxySettings)
    upstreams: dict[value_types.Host, UpstreamSettings] = Field(default_factory=dict)
    pullsecret: PullSecretSettings = Field(default_factory=PullSecretSettings)
    cleaner: CleanerSettings = Field(default_factory=CleanerSettings)
    limits: LimitsSettings = Field(default_factory=LimitsSettings)
    hosted: value_types.HostedRules = setting(
        (), "rules: how long pushed content is retained, by repository"
    )
    notifications: NotificationsSettings = Field(default_factory=NotificationsSettings)
    followed: Followed = Field(default_factory=Followed)
    adjusted: tuple[str, ...] = Field(default=())
    run: Path = Field(default=Path(), exclude=True)

    @property
    def has_redirects(self) -> bool:
        """Return whether clients may be redirected to another server for large blobs."""
        if self.middleware.target is None:
            return self.storage.has_redirects
        return not self.storage.redirect.disable

    @property
    def has_edge_cache(self) -> bool:
        """Return whether HAProxy caches responses; with middleware, workers get all requests."""
        return self.http.edgecache and not self.middleware.is_set
