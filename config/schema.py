"""Define every setting: its key, type, default, unit, variable and meaning.

This module determines the keys of the configuration file, the environment variables, the
command-line flags, the output of `entrepot check` and the tables in docs/configuration.md. Values
of settings are immutable. Time spans are in seconds, sizes in bytes, and paths are absolute.
"""

from __future__ import annotations

from pathlib import Path

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
from entrepot.config.section import Section, internal, section, setting
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
        "a map of user names to bcrypt hashes, in addition to the password file; changes take"
        " effect without a restart",
        secret=True,
    )
    realm: value_types.Text = setting("Entrepot", "the name that clients show in a password prompt")
    token: value_types.Switch = setting(
        "false",
        "whether clients exchange their password for a token at /v2/token of the appliance; docker"
        " and podman can then pull with and without a login",
    )


class TokenSettings(Section):
    """The settings of `auth.token:`. If the section `token` is present, requests need tokens."""

    realm: value_types.MaybeText = setting(None, "the URL of the token server", shown="required")
    service: value_types.MaybeText = setting(
        None, "the name of this registry, which is the audience of its tokens", shown="required"
    )
    issuer: value_types.MaybeText = setting(
        None, "the issuer (the claim iss) of accepted tokens", shown="required"
    )
    rootcertbundle: value_types.MaybeFile = setting(
        None,
        "a PEM file of certificates whose keys sign tokens, or of the authorities that issue such"
        " certificates; changes take effect without a restart",
    )
    jwks: value_types.MaybeFile = setting(
        None,
        "a JSON Web Key Set with the public keys of the token server; changes take effect without a"
        " restart",
    )
    signingalgorithms: value_types.SigningAlgorithms = setting(
        (),
        "the signature algorithms that tokens may use",
        shown="EdDSA, and RS, PS and ES with 256, 384 and 512",
    )
    autoredirect: value_types.Switch = setting(
        "false", "whether the token server is at the host that the client used, instead of at realm"
    )
    autoredirectpath: value_types.Text = setting(
        "/auth/token", "the path of the token server if autoredirect is true"
    )


class SillySettings(Section):
    """The settings of `auth.silly:`, which accepts every Authorization header."""

    realm: value_types.MaybeText = setting(
        None, "the realm in the challenge of a 401 response", shown="required"
    )
    service: value_types.MaybeText = setting(
        None, "the service in the challenge of a 401 response", shown="required"
    )


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
        """Return whether passwords or tokens are checked; `auth.silly` accepts any credential."""
        return self.htpasswd is not None or self.token is not None


class CatalogSettings(Section):
    """The settings of `catalog:`."""

    maxentries: value_types.PageSize = setting(
        "1000",
        "the largest number of repositories in a page of /v2/_catalog; a page has 100 if the"
        " request has no parameter n",
    )


class TagsSettings(Section):
    """The settings of `tags:`."""

    maxtags: value_types.PageSize = setting(
        "1000",
        "the largest number of tags in a page of tags/list; a page has all tags if the request has"
        " no parameter n",
    )


class ExecSettings(Section):
    """The settings of `proxy.exec:`."""

    command: value_types.MaybeText = setting(
        None, "the command of a Docker credential helper that returns the login for proxy.remoteurl"
    )
    lifetime: value_types.MaybeSpan = setting(
        None,
        "how long a login from the helper is used; 0: for one request",
        shown="none: until a restart",
    )


class ProxySettings(Section):
    """The settings of `proxy:`. A section `upstreams.HOST:` can override most of these settings."""

    remoteurl: value_types.MaybeUrl = setting(
        None, "the URL of an upstream, which becomes the default upstream"
    )
    username: value_types.MaybeText = setting(None, "the user name for proxy.remoteurl")
    password: value_types.MaybeText = setting(None, "the password for proxy.remoteurl", secret=True)
    exec: ExecSettings = section(ExecSettings)
    default: value_types.MaybeHost = setting(
        None,
        "the upstream of repository names without a host; dockerd sends such names to a mirror",
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
        "2s", "the timeout for a connection to an upstream", env="ENTREPOT_CONNECT_TIMEOUT"
    )
    readtimeout: value_types.LongerSpan = setting(
        "30s", "the longest wait for the next bytes from an upstream", env="ENTREPOT_READ_TIMEOUT"
    )
    minrate: value_types.Size = setting(
        "10K",
        "a download slower than this rate, in bytes/s, is retried over another connection; 0:"
        " never",
        env="ENTREPOT_MIN_RATE",
    )
    redirects: value_types.Redirects = setting(
        "public",
        "the addresses to which an upstream may redirect requests, in addition to its own network:"
        " public, any, or a list of networks",
        env="ENTREPOT_REDIRECTS",
    )
    ranges: value_types.Ranges = setting(
        "auto",
        "whether a range of a layer that is being downloaded is sent after the layer's digest is"
        " verified (verified) or earlier (early); auto: early only for layers above 64 MiB",
        env="ENTREPOT_RANGES",
    )
    prefetch: value_types.Layers = setting(
        "3", "how many layers are prefetched in parallel; 0: none", env="ENTREPOT_PREFETCH"
    )
    lanes: value_types.Lanes = setting(
        "4",
        "how many parallel connections download a layer of 16 MiB or more, 1 to 16",
        env="ENTREPOT_LANES",
    )


class UpstreamSettings(Section):
    """The settings of `upstreams.HOST:`.

    An unset key has the value of the same key in `proxy:`, if `proxy:` has that key. An unset login
    comes from the pull secret.
    """

    enabled: value_types.Switch = setting(
        "true", "false removes the upstream, even if the pull secret names it"
    )
    url: value_types.MaybeUrl = setting(
        None, "the base URL of the upstream", shown="https://HOST, loopback: http://HOST"
    )
    mirrors: value_types.Urls = setting(
        (), "URLs of mirrors, which are tried in this order before the upstream"
    )
    ca: value_types.MaybeFile = setting(
        None, "a PEM file of the private authority that issued the upstream's certificate"
    )
    insecure: value_types.Switch = setting(
        "false", "true: the upstream's certificate is not verified"
    )
    realm: value_types.MaybeRealm = setting(
        None,
        "the URL of a token service on another host, to which the upstream's password may be sent",
        shown="none: the upstream's own host, or the known token service of a public registry",
    )
    username: value_types.MaybeText = setting(
        None, "the user name at the upstream; it takes precedence over the pull secret"
    )
    password: value_types.MaybeText = setting(
        None, "the password of the user in username", secret=True
    )
    passwordfile: value_types.MaybeFile = setting(
        None, "a file that contains only the upstream's password"
    )
    freshness: value_types.MaybeSpan = setting(
        None, "as proxy.freshness, for this upstream alone", shown="proxy.freshness"
    )
    maxstale: value_types.MaybeSpan = setting(
        None, "as proxy.maxstale, for this upstream alone", shown="proxy.maxstale"
    )
    ongone: value_types.MaybeOnGone = setting(
        None, "as proxy.ongone, for this upstream alone", shown="proxy.ongone"
    )
    negativettl: value_types.MaybeSpan = setting(
        None, "as proxy.negativettl, for this upstream alone", shown="proxy.negativettl"
    )
    connecttimeout: value_types.MaybeLongerSpan = setting(
        None, "as proxy.connecttimeout, for this upstream alone", shown="proxy.connecttimeout"
    )
    readtimeout: value_types.MaybeLongerSpan = setting(
        None, "as proxy.readtimeout, for this upstream alone", shown="proxy.readtimeout"
    )
    redirects: value_types.MaybeRedirects = setting(
        None, "as proxy.redirects, for this upstream alone", shown="proxy.redirects"
    )
    ranges: value_types.MaybeRanges = setting(
        None, "as proxy.ranges, for this upstream alone", shown="proxy.ranges"
    )
    default: value_types.Switch = setting(
        "false", "whether repository names without a host belong to this upstream"
    )


class PullSecretSettings(Section):
    """The settings of `pullsecret:`."""

    path: value_types.MaybeFile = setting(
        None,
        "the pull secret, a file with the passwords for upstreams; changes take effect without a"
        " restart",
        env="PULLSECRETPATH",
        shown="/pull-secret.json, if it exists",
    )
    ignore: value_types.Words = setting(
        "cloud.openshift.com", "hosts of the pull secret that are ignored", env="IGNOREREGISTRYLIST"
    )


class CleanerSettings(Section):
    """The settings of `cleaner:`."""

    maxsize: value_types.Size = setting(
        "10G",
        "the size to which eviction reduces the stored content; 0: no limit",
        env="CLEANER_MAXSIZE",
    )
    ttl: value_types.Span = setting(
        "30d", "content that is unused for this long is evicted; 0: never", env="CLEANER_TTL"
    )
    threshold: value_types.Percentage = setting(
        "20",
        "how far the stored content may exceed cleaner.maxsize, in percent of cleaner.maxsize",
        env="CLEANER_THRESHOLD_PERCENTAGE",
    )
    runevery: value_types.LongerSpan = setting(
        "30m",
        "the longest time between two evictions; a short TTL shortens it, and low disk space starts"
        " an eviction at once",
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
        "50G", "how much stored content is verified each day; 0: none", env="CLEANER_SCRUB"
    )


class EventsSettings(Section):
    """The settings of `notifications.events:`."""

    includereferences: value_types.Switch = setting(
        "false", "whether an event for a manifest lists the descriptors of the manifest's parts"
    )


class NotificationsSettings(Section):
    """The settings of `notifications:`."""

    events: EventsSettings = section(EventsSettings)
    endpoints: value_types.Endpoints = setting(
        (),
        "servers to which an event is sent for each pull, push, mount and deletion",
        secret=True,
    )

    @property
    def active(self) -> tuple[NotificationEndpoint, ...]:
        """Return the endpoints that are not disabled."""
        return tuple(each for each in self.endpoints if not each.disabled)


class Followed(Section):
    """A `Followed` states which parts of the configuration file the appliance rereads at run time.

    Operators cannot set these fields. `file` is the path of the configuration file. If `access` is
    true, the access rules are reread; if `users` is true, the users are reread.
    """

    file: Path | None = None
    access: bool = False
    users: bool = False


class Settings(Section):
    """A `Settings` holds the values of all settings.

    `run` is the path of the run directory; it is set only in the processes that `entrepot serve`
    starts. `adjusted` lists the public registries that have no section in the configuration file
    but for which flags or variables change single settings.
    """

    version: value_types.Version = setting("0.1", "the version of the configuration file's format")
    log: LogSettings = section(LogSettings)
    storage: StorageSettings = section(StorageSettings)
    auth: AuthSettings = section(AuthSettings)
    access: value_types.AccessRules = setting(
        None,
        "rules that state which users may pull, push or delete in which repositories; changes take"
        " effect without a restart",
        shown="none: every user may do everything",
    )
    middleware: MiddlewareSettings = section(MiddlewareSettings)
    reporting: ReportingSettings = section(ReportingSettings)
    http: HttpSettings = section(HttpSettings)
    health: HealthSettings = section(HealthSettings)
    catalog: CatalogSettings = section(CatalogSettings)
    tags: TagsSettings = section(TagsSettings)
    validation: ValidationSettings = section(ValidationSettings)
    policy: PolicySettings = section(PolicySettings)
    proxy: ProxySettings = section(ProxySettings)
    upstreams: dict[value_types.Host, UpstreamSettings] = section(dict)
    pullsecret: PullSecretSettings = section(PullSecretSettings)
    cleaner: CleanerSettings = section(CleanerSettings)
    limits: LimitsSettings = section(LimitsSettings)
    hosted: value_types.HostedRules = setting(
        (), "rules that state for each repository how long pushed content is retained"
    )
    notifications: NotificationsSettings = section(NotificationsSettings)
    followed: Followed = section(Followed)
    adjusted: tuple[str, ...] = section(tuple)
    run: Path = internal(Path())

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
