"""Tests which upstreams are active, and with which settings."""

from __future__ import annotations

from dataclasses import fields

import pytest

from entrepot.config.pull_secret import ParsedPullSecret, parse
from entrepot.config.schema import Settings
from entrepot.config.upstreams import PUBLIC, UpstreamValues, upstream_defaults, upstreams_in_force
from entrepot.registry.upstream.upstream_config import UpstreamConfig
from tests.config.config_folder import ConfigFolder


def upstreams(settings: Settings, secret: ParsedPullSecret | None = None) -> list[UpstreamValues]:
    """Return the settings of each active upstream that has a full name, not a pattern."""
    known = upstreams_in_force(settings, secret)
    return [known.values(host) for host in known.hosts]


def _hosts(found: list[UpstreamValues]) -> list[str]:
    return [each.host for each in found]


def _defaults(found: list[UpstreamValues]) -> list[str]:
    return [each.host for each in found if each.default]


def test_the_values_have_the_fields_of_an_upstream_config() -> None:
    """`UpstreamValues` has the fields of `UpstreamConfig`, and the field `default`.

    There are two classes for an upstream because the package `registry` must be usable without the
    package `config`.
    """
    names = {each.name for each in fields(UpstreamValues)}

    assert {each.name for each in fields(UpstreamConfig)} | {"default"} == names


def test_without_configured_upstreams_the_public_registries_are_active(
    config_folder: ConfigFolder,
) -> None:
    """Without configured upstreams the public registries are the upstreams.

    None of them is the default upstream.
    """
    found = upstreams(config_folder.settings())

    assert list(PUBLIC) == _hosts(found)
    assert _defaults(found) == []
    assert found[0].url == "https://registry-1.docker.io"


def test_a_secret_that_names_a_registry_replaces_the_public_ones(
    config_folder: ConfigFolder,
) -> None:
    """A pull secret that names a registry, by host or glob, replaces the public upstreams."""
    settings = config_folder.settings(PULLSECRETPATH="/pull-secret.json")
    named = upstreams_in_force(settings, parse(b'{"auths": {"a.example": {}}}'))
    matched = upstreams_in_force(settings, parse(b'{"auths": {"*.example": {}}}'))

    assert named.hosts == ("a.example",)
    assert (matched.hosts, matched.globs) == ((), ("*.example",))
    assert not named.names("quay.io")
    assert matched.names("b.example")


@pytest.mark.parametrize(
    "secret",
    [
        b'{"auths": {}}',
        b'{"auths": {}, "credsStore": "desktop"}',
        b'{"credHelpers": {"gcr.io": "gcloud"}}',
        b'{"auths": {"ignored.example": {}}}',
    ],
    ids=["empty", "store", "helpers", "ignored"],
)
def test_a_secret_that_names_no_registry_leaves_the_public_ones(
    config_folder: ConfigFolder, secret: bytes
) -> None:
    """A pull secret that names no registry, such as Docker Desktop's, keeps the public upstreams.

    Such a pull secret has no entries, or only entries of ignored hosts.
    """
    settings = config_folder.settings(PULLSECRETPATH="/pull-secret.json")
    known = upstreams_in_force(settings, parse(secret, ["ignored.example"]))

    assert known.hosts == PUBLIC
    assert known.names("quay.io")


def test_configured_upstreams_replace_the_public_ones(config_folder: ConfigFolder) -> None:
    """Configured upstreams replace the public ones, in the order of the file."""
    config_folder.write("upstreams: {b.io: , a.io: {}, localhost:5000: }")
    found = upstreams(config_folder.settings())

    assert _hosts(found) == ["b.io", "a.io", "localhost:5000"]
    assert [each.url for each in found] == ["https://b.io", "https://a.io", "http://localhost:5000"]


def test_an_upstream_inherits_the_settings_of_proxy(config_folder: ConfigFolder) -> None:
    """An upstream inherits the settings of `proxy:`."""
    config_folder.write(
        """
        proxy: {freshness: 5m, maxstale: 2d, ongone: serve, negativettl: 1s, readtimeout: 9s}
        upstreams:
          a.io:
          b.io: {freshness: 0, ongone: refuse, connecttimeout: 1s, mirrors: [m.io], insecure: true}
        """
    )
    a, b = upstreams(config_folder.settings())

    assert (
        a.freshness,
        a.max_stale,
        a.on_gone,
        a.negative_ttl,
        a.connect_timeout,
        a.read_timeout,
    ) == (300.0, 172800.0, "serve", 1.0, 2.0, 9.0)
    assert (
        b.freshness,
        b.on_gone,
        b.connect_timeout,
        b.max_stale,
    ) == (0.0, "refuse", 1.0, 172800.0)
    assert (b.mirrors, b.insecure) == (("https://m.io",), True)


def test_a_host_of_the_secret_inherits_the_settings_of_proxy(config_folder: ConfigFolder) -> None:
    """A host of the pull secret becomes an upstream with the settings of `proxy`.

    If the configuration file has a section for that host, under any of its names, the settings of
    the section take precedence.
    """
    config_folder.write("upstreams: {index.docker.io: {freshness: 5m}}")
    settings = config_folder.settings(ENTREPOT_FRESHNESS="7s")

    assert upstream_defaults(settings, "Quay.io").freshness == 7.0
    assert upstream_defaults(settings, "Quay.io").host == "quay.io"
    assert upstream_defaults(settings, "docker.io").freshness == 300.0


def test_a_remote_url_is_an_upstream_and_the_default(config_folder: ConfigFolder) -> None:
    """REGISTRY_PROXY_REMOTEURL, _USERNAME and _PASSWORD set the default upstream and its login.

    REGISTRY_PROXY_* are the variables of docker distribution's pull-through cache.
    """
    (found,) = upstreams(
        config_folder.settings(
            REGISTRY_PROXY_REMOTEURL="https://registry-1.docker.io",
            REGISTRY_PROXY_USERNAME="me",
            REGISTRY_PROXY_PASSWORD="secret",
        )
    )

    assert (found.host, found.url) == ("docker.io", "https://registry-1.docker.io")
    assert (found.username, found.password, found.default) == ("me", "secret", True)


def test_the_login_of_the_remote_url_is_used_for_its_host_only(config_folder: ConfigFolder) -> None:
    """The login for REGISTRY_PROXY_REMOTEURL is sent to the host of that URL only."""
    settings = config_folder.settings(
        "--proxy.remoteurl=http://a.io", "--proxy.username=me", "--proxy.password=p"
    )

    assert upstream_defaults(settings, "quay.io").password is None
    assert upstream_defaults(settings, "quay.io").username is None


def test_an_upstream_s_own_login_overrides_that_of_the_remote_url(
    config_folder: ConfigFolder,
) -> None:
    """An upstream's own login replaces the login of remoteurl; the two are never combined."""
    config_folder.write("upstreams: {a.io: {username: own, passwordfile: /p}}")
    (found,) = upstreams(
        config_folder.settings(
            "--proxy.remoteurl=a.io", "--proxy.username=me", "--proxy.password=p"
        )
    )

    assert (found.username, found.password, str(found.password_file)) == ("own", None, "/p")


def test_the_default_is_an_upstream_without_a_section(config_folder: ConfigFolder) -> None:
    """A default upstream without a section is added to the public or configured upstreams."""
    settings = config_folder.settings(ENTREPOT_DEFAULT_UPSTREAM="Registry.example")

    assert [*PUBLIC, "registry.example"] == _hosts(upstreams(settings))
    assert _defaults(upstreams(settings)) == ["registry.example"]


def test_the_default_may_be_marked_on_the_upstream(config_folder: ConfigFolder) -> None:
    """Either `default: true` of an upstream or `proxy.default` sets the default upstream."""
    config_folder.write("upstreams: {a.io: , docker.io: {default: true}}")
    assert _defaults(upstreams(config_folder.settings())) == ["docker.io"]

    config_folder.write("upstreams: {a.io: , docker.io: }")
    found = upstreams(config_folder.settings(ENTREPOT_DEFAULT_UPSTREAM="index.docker.io"))
    assert _defaults(found) == ["docker.io"]


def test_a_password_is_not_shown(config_folder: ConfigFolder) -> None:
    """The representations of upstreams and settings hide passwords."""
    config_folder.write("upstreams: {a.io: {username: me, password: hunter2}}")
    settings = config_folder.settings()

    assert upstreams(settings)[0].password == "hunter2"
    assert "hunter2" not in repr(upstreams(settings))
    assert "hunter2" not in repr(settings)


def test_redirects_lead_to_public_addresses_unless_the_operator_allows_more(
    config_folder: ConfigFolder,
) -> None:
    """Redirects lead only to public addresses unless the operator allows more networks.

    The networks to which redirects may lead are set for all upstreams or for one.
    """
    config_folder.write(
        """
        proxy: {redirects: "public 10.0.0.0/8, fd00::/8"}
        upstreams:
          a.io:
          b.io: {redirects: any}
        """
    )
    a, b = upstreams(config_folder.settings())

    assert a.redirects == ("public", "10.0.0.0/8", "fd00::/8")
    assert b.redirects == ("any",)


def test_ranges_of_unverified_blobs_are_set_for_all_or_for_one(config_folder: ConfigFolder) -> None:
    """`proxy.ranges` applies to all upstreams; an upstream's own `ranges` overrides it.

    The default is `auto`.
    """
    config_folder.write("upstreams: {a.io: , b.io: {ranges: early}}")
    assert [each.ranges for each in upstreams(config_folder.settings())] == ["auto", "early"]

    config_folder.write("proxy: {ranges: verified}\nupstreams: {a.io: , b.io: {ranges: early}}")
    assert [each.ranges for each in upstreams(config_folder.settings())] == ["verified", "early"]


@pytest.mark.parametrize("wrong", ["private", "10.0.0.1/8", "10.0.0.0/33", "example.com"])
def test_an_invalid_network_is_a_problem_with_a_remedy(
    config_folder: ConfigFolder, wrong: str
) -> None:
    """An invalid network for redirects is a problem: a rule that protects is never ignored."""
    config_folder.write(f"proxy: {{redirects: [{wrong}]}}")
    (problem,) = config_folder.examine().problems

    assert "try [public, 10.0.0.0/8]" in str(problem)


@pytest.mark.parametrize(
    "flag",
    [
        "--upstreams.quay.io.freshness=5m",
        "--upstreams.docker.io.ongone=serve",
        "--upstreams.index.docker.io.readtimeout=9s",
        "--upstreams.quay.io.enabled=true",
    ],
)
def test_a_flag_that_adjusts_a_public_registry_leaves_the_others(
    config_folder: ConfigFolder, flag: str
) -> None:
    """If a flag adjusts one public registry, the other public registries are still upstreams."""
    settings = config_folder.settings(flag)

    assert [*PUBLIC] == _hosts(upstreams(settings))


def test_an_adjusted_registry_has_the_value_of_the_flag(config_folder: ConfigFolder) -> None:
    """A flag for a public registry takes effect, even in the programs that `serve` starts."""
    settings = config_folder.settings("--upstreams.quay.io.freshness=5m")
    passed_on = Settings.from_tree(settings.as_tree())

    for each in (settings, passed_on):
        found = {one.host: one.freshness for one in upstreams(each)}
        assert (found["quay.io"], found["ghcr.io"]) == (300.0, 60.0)


@pytest.mark.parametrize(
    ("text", "argv", "environ"),
    [
        ("upstreams: {quay.io: {freshness: 5m}}", [], {}),
        ("upstreams: {quay.io: }", [], {}),
        ("upstreams: {quay.io: {}}", ["--upstreams.quay.io.freshness=5m"], {}),
        ("", ["--upstreams.quay.io={freshness: 5m}"], {}),
        ("", ["--upstreams={quay.io: {}}"], {}),
        ("", [], {"REGISTRY_UPSTREAMS": "{quay.io: {}}"}),
        ("proxy: {remoteurl: 'https://quay.io'}", ["--upstreams.quay.io.freshness=5m"], {}),
    ],
)
def test_a_section_makes_its_hosts_the_only_upstreams(
    config_folder: ConfigFolder, text: str, argv: list[str], environ: dict[str, str]
) -> None:
    """If `upstreams` has host sections, or `remoteurl` is set, no other host is an upstream."""
    config_folder.write(text)

    assert _hosts(upstreams(config_folder.settings(*argv, **environ))) == ["quay.io"]


def test_a_registry_of_the_secret_that_a_flag_adjusts_is_the_only_one(
    config_folder: ConfigFolder,
) -> None:
    """If a flag adjusts the only registry of the pull secret, no other registry is an upstream."""
    settings = config_folder.settings("--upstreams.quay.io.freshness=5m")
    known = upstreams_in_force(settings, parse(b'{"auths": {"quay.io": {}}}'))

    assert known.hosts == ("quay.io",)


def test_a_flag_for_a_host_that_is_not_public_configures_it(config_folder: ConfigFolder) -> None:
    """A flag that adjusts a host other than the public registries makes that host an upstream.

    If another flag adjusts a public registry, that registry is an upstream too.
    """
    flags = ["--upstreams.quay.io.freshness=5m", "--upstreams.corp.example.url=https://a.corp"]

    assert _hosts(upstreams(config_folder.settings(*flags[1:]))) == ["corp.example"]
    assert set(_hosts(upstreams(config_folder.settings(*flags)))) == {"quay.io", "corp.example"}


@pytest.mark.parametrize(
    ("text", "argv", "secret"),
    [
        ("upstreams: {quay.io: {enabled: false}}", [], b'{"auths": {}}'),
        ("", ["--upstreams.quay.io.enabled=false"], b'{"auths": {}}'),
        ("", ["--upstreams.QUAY.IO.enabled=false"], b'{"auths": {"quay.io": {}, "ghcr.io": {}}}'),
        ("upstreams: {quay.io: {enabled: false}, a.io: }", [], b'{"auths": {"quay.io": {}}}'),
        ("upstreams: {quay.io: {enabled: false}}", [], b'{"auths": {"*.io": {}}}'),
        (
            "upstreams: {index.docker.io: {enabled: false}, quay.io: {enabled: false}}",
            [],
            b'{"auths": {"https://index.docker.io/v1/": {}, "quay.io": {}}}',
        ),
    ],
)
def test_an_upstream_can_be_disabled(
    config_folder: ConfigFolder, text: str, argv: list[str], secret: bytes
) -> None:
    """`enabled: false` removes an upstream.

    A disabled upstream may be a public registry, one of the pull secret, or one that a glob
    matches.
    """
    config_folder.write(text)
    known = upstreams_in_force(config_folder.settings(*argv), parse(secret))

    assert "quay.io" not in known.hosts
    assert not known.names("quay.io")
    assert not known.names("QUAY.IO")
    if "docker" in text:
        assert not known.names("docker.io")
        assert not known.names("registry-1.docker.io")
    elif b'"auths": {}' in secret:
        assert set(known.hosts) == set(PUBLIC) - {"quay.io"}


def test_the_public_registries_can_be_switched_off(config_folder: ConfigFolder) -> None:
    """The public registries can be switched off; configured upstreams remain.

    Without upstreams the appliance serves only pushed content.
    """
    known = upstreams_in_force(config_folder.settings(ENTREPOT_PUBLIC_UPSTREAMS="false"), None)
    named = upstreams_in_force(
        config_folder.settings("--upstreams.a.io.url=a.io", ENTREPOT_PUBLIC_UPSTREAMS="false"), None
    )

    assert (known.hosts, known.globs, known.default) == ((), (), None)
    assert not any(known.names(host) for host in PUBLIC)
    assert named.hosts == ("a.io",)


def test_a_disabled_default_is_a_problem(config_folder: ConfigFolder) -> None:
    """A default upstream with `enabled: false` is a problem: one of the two settings is wrong."""
    flags = ["--proxy.default=quay.io", "--upstreams.quay.io.enabled=false"]

    message = "quay.io is the default, but upstreams.quay.io.enabled is false"
    assert config_folder.problems(*flags) == [
        f"proxy.default: {message}; enable the upstream, or choose another default"
    ]


def test_a_path_in_remoteurl_precedes_the_api_and_one_in_url_begins_the_names(
    config_folder: ConfigFolder,
) -> None:
    """A path in `remoteurl` precedes /v2/, and a path in `url` begins the repository names.

    Docker distribution has the rule for `remoteurl`; Harbor's projects need the rule for `url`.
    """
    remote = "--proxy.remoteurl=https://a.io/mirror/"
    both = config_folder.settings(remote, "--upstreams.a.io.url=https://a.io/team")

    values = upstream_defaults(config_folder.settings(remote), "a.io")
    assert (values.url, values.path_first) == ("https://a.io/mirror", True)
    values = upstream_defaults(both, "a.io")
    assert (values.url, values.path_first) == ("https://a.io/team", False)
