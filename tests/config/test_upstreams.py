"""Which upstreams there are, each with all that was said of it and of all of them."""

from __future__ import annotations

from dataclasses import fields

import pytest

from config.pull_secret import PullSecret, parse
from config.schema import Settings
from config.upstreams import PUBLIC, UpstreamValues, upstream_defaults, upstreams_in_force
from registry.upstream.source import Source
from tests.config.desk import Desk


def upstreams(settings: Settings, secret: PullSecret | None = None) -> list[UpstreamValues]:
    """Return the settings of every upstream in force that is named in full."""
    known = upstreams_in_force(settings, secret)
    return [known.values(host) for host in known.hosts]


def _hosts(found: list[UpstreamValues]) -> list[str]:
    return [each.host for each in found]


def _defaults(found: list[UpstreamValues]) -> list[str]:
    return [each.host for each in found if each.default]


def test_they_have_the_fields_of_a_source() -> None:
    """`registry` is embedded without `config`: the two are held together here."""
    names = {each.name for each in fields(UpstreamValues)}

    assert {each.name for each in fields(Source)} | {"default"} == names


def test_without_any_upstream_the_public_ones_are_there(desk: Desk) -> None:
    """A newcomer pulls without having said anything; nobody is the default."""
    found = upstreams(desk.settings())

    assert list(PUBLIC) == _hosts(found)
    assert _defaults(found) == []
    assert found[0].url == "https://registry-1.docker.io"


def test_a_secret_that_names_a_registry_replaces_the_public_ones(desk: Desk) -> None:
    """By host or by glob."""
    settings = desk.settings(PULLSECRETPATH="/pull-secret.json")
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
def test_a_secret_that_names_no_registry_leaves_the_public_ones(desk: Desk, secret: bytes) -> None:
    """Docker Desktop writes such a file. The names must be the same to everything that asks."""
    settings = desk.settings(PULLSECRETPATH="/pull-secret.json")
    known = upstreams_in_force(settings, parse(secret, ["ignored.example"]))

    assert known.hosts == PUBLIC
    assert known.names("quay.io")


def test_said_upstreams_take_the_place_of_the_public_ones(desk: Desk) -> None:
    """In the order of the file."""
    desk.write("upstreams: {b.io: , a.io: {}, localhost:5000: }")
    found = upstreams(desk.settings())

    assert _hosts(found) == ["b.io", "a.io", "localhost:5000"]
    assert [each.url for each in found] == ["https://b.io", "https://a.io", "http://localhost:5000"]


def test_what_is_not_said_of_one_holds_as_for_all(desk: Desk) -> None:
    """`proxy:` is the default of every upstream."""
    desk.write(
        """
        proxy: {freshness: 5m, maxstale: 2d, ongone: serve, negativettl: 1s, readtimeout: 9s}
        upstreams:
          a.io:
          b.io: {freshness: 0, ongone: refuse, connecttimeout: 1s, mirrors: [m.io], insecure: true}
        """
    )
    a, b = upstreams(desk.settings())

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


def test_a_host_of_the_secret_gets_what_holds_for_all(desk: Desk) -> None:
    """And what was said of it in the file, by any of its names."""
    desk.write("upstreams: {index.docker.io: {freshness: 5m}}")
    settings = desk.settings(ENTREPOT_FRESHNESS="7s")

    assert upstream_defaults(settings, "Quay.io").freshness == 7.0
    assert upstream_defaults(settings, "Quay.io").host == "quay.io"
    assert upstream_defaults(settings, "docker.io").freshness == 300.0


def test_a_remote_url_is_an_upstream_and_the_default(desk: Desk) -> None:
    """Distribution's pull-through cache, by its three variables."""
    (found,) = upstreams(
        desk.settings(
            REGISTRY_PROXY_REMOTEURL="https://registry-1.docker.io",
            REGISTRY_PROXY_USERNAME="me",
            REGISTRY_PROXY_PASSWORD="secret",
        )
    )

    assert (found.host, found.url) == ("docker.io", "https://registry-1.docker.io")
    assert (found.username, found.password, found.default) == ("me", "secret", True)


def test_the_remote_s_login_is_for_nobody_else(desk: Desk) -> None:
    """A password leaves for the host that it was given for."""
    settings = desk.settings(
        "--proxy.remoteurl=http://a.io", "--proxy.username=me", "--proxy.password=p"
    )

    assert upstream_defaults(settings, "quay.io").password is None
    assert upstream_defaults(settings, "quay.io").username is None


def test_a_login_of_its_own_goes_before_the_remote_s(desk: Desk) -> None:
    """Never the name of one with the password of the other."""
    desk.write("upstreams: {a.io: {username: own, passwordfile: /p}}")
    (found,) = upstreams(
        desk.settings("--proxy.remoteurl=a.io", "--proxy.username=me", "--proxy.password=p")
    )

    assert (found.username, found.password, str(found.password_file)) == ("own", None, "/p")


def test_the_default_is_an_upstream_by_that_alone(desk: Desk) -> None:
    """Beside the public ones, or those that were said."""
    settings = desk.settings(ENTREPOT_DEFAULT_UPSTREAM="Registry.example")

    assert [*PUBLIC, "registry.example"] == _hosts(upstreams(settings))
    assert _defaults(upstreams(settings)) == ["registry.example"]


def test_the_default_may_be_marked_on_the_upstream(desk: Desk) -> None:
    """`default: true`, or `proxy.default`."""
    desk.write("upstreams: {a.io: , docker.io: {default: true}}")
    assert _defaults(upstreams(desk.settings())) == ["docker.io"]

    desk.write("upstreams: {a.io: , docker.io: }")
    found = upstreams(desk.settings(ENTREPOT_DEFAULT_UPSTREAM="index.docker.io"))
    assert _defaults(found) == ["docker.io"]


def test_a_password_is_not_shown(desk: Desk) -> None:
    """Neither in the values nor in the settings."""
    desk.write("upstreams: {a.io: {username: me, password: hunter2}}")
    settings = desk.settings()

    assert upstreams(settings)[0].password == "hunter2"
    assert "hunter2" not in repr(upstreams(settings))
    assert "hunter2" not in repr(settings)


def test_redirects_lead_to_public_addresses_unless_the_operator_allows_more(desk: Desk) -> None:
    """For all upstreams, or for one."""
    desk.write(
        """
        proxy: {redirects: "public 10.0.0.0/8, fd00::/8"}
        upstreams:
          a.io:
          b.io: {redirects: any}
        """
    )
    a, b = upstreams(desk.settings())

    assert a.redirects == ("public", "10.0.0.0/8", "fd00::/8")
    assert b.redirects == ("any",)


def test_ranges_of_unverified_blobs_are_set_for_all_or_for_one(desk: Desk) -> None:
    """`auto` where nothing is set."""
    desk.write("upstreams: {a.io: , b.io: {ranges: early}}")
    assert [each.ranges for each in upstreams(desk.settings())] == ["auto", "early"]

    desk.write("proxy: {ranges: verified}\nupstreams: {a.io: , b.io: {ranges: early}}")
    assert [each.ranges for each in upstreams(desk.settings())] == ["verified", "early"]


@pytest.mark.parametrize("wrong", ["private", "10.0.0.1/8", "10.0.0.0/33", "example.com"])
def test_what_is_no_network_is_refused_with_a_remedy(desk: Desk, wrong: str) -> None:
    """A rule that protects is never ignored."""
    desk.write(f"proxy: {{redirects: [{wrong}]}}")
    (problem,) = desk.examine().problems

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
def test_a_flag_that_adjusts_a_public_registry_leaves_the_others(desk: Desk, flag: str) -> None:
    """It says how to ask this one, not to ask nothing else."""
    settings = desk.settings(flag)

    assert [*PUBLIC] == _hosts(upstreams(settings))


def test_an_adjusted_registry_has_what_was_set(desk: Desk) -> None:
    """Also in what the programs of the appliance are given."""
    settings = desk.settings("--upstreams.quay.io.freshness=5m")
    handed = Settings.model_validate(settings.model_dump(mode="json"))

    for each in (settings, handed):
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
def test_a_section_names_the_upstreams_that_there_are(
    desk: Desk, text: str, argv: list[str], environ: dict[str, str]
) -> None:
    """In the file, or as a map in a variable or a flag: these only."""
    desk.write(text)

    assert _hosts(upstreams(desk.settings(*argv, **environ))) == ["quay.io"]


def test_a_secret_names_what_a_flag_adjusts(desk: Desk) -> None:
    """So there is only that one."""
    settings = desk.settings("--upstreams.quay.io.freshness=5m")
    known = upstreams_in_force(settings, parse(b'{"auths": {"quay.io": {}}}'))

    assert known.hosts == ("quay.io",)


def test_a_flag_for_another_host_names_it(desk: Desk) -> None:
    """And what was adjusted beside it is one of those that are named."""
    flags = ["--upstreams.quay.io.freshness=5m", "--upstreams.corp.example.url=https://a.corp"]

    assert _hosts(upstreams(desk.settings(*flags[1:]))) == ["corp.example"]
    assert set(_hosts(upstreams(desk.settings(*flags)))) == {"quay.io", "corp.example"}


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
def test_an_upstream_can_be_left_out(desk: Desk, text: str, argv: list[str], secret: bytes) -> None:
    """Of the public ones, of the secret, and where a glob would make it one."""
    desk.write(text)
    known = upstreams_in_force(desk.settings(*argv), parse(secret))

    assert "quay.io" not in known.hosts
    assert not known.names("quay.io")
    assert not known.names("QUAY.IO")
    if "docker" in text:
        assert not known.names("docker.io")
        assert not known.names("registry-1.docker.io")
    elif b'"auths": {}' in secret:
        assert set(known.hosts) == set(PUBLIC) - {"quay.io"}


def test_there_may_be_no_upstream_at_all(desk: Desk) -> None:
    """A registry that is only pushed to; what is named beside that is there all the same."""
    known = upstreams_in_force(desk.settings(ENTREPOT_PUBLIC_UPSTREAMS="false"), None)
    named = upstreams_in_force(
        desk.settings("--upstreams.a.io.url=a.io", ENTREPOT_PUBLIC_UPSTREAMS="false"), None
    )

    assert (known.hosts, known.globs, known.default) == ((), (), None)
    assert not any(known.names(host) for host in PUBLIC)
    assert named.hosts == ("a.io",)


def test_a_default_that_is_left_out_is_a_contradiction(desk: Desk) -> None:
    """One of the two was not meant."""
    flags = ["--proxy.default=quay.io", "--upstreams.quay.io.enabled=false"]

    assert desk.problems(*flags) == [
        "proxy.default: quay.io is the default, and upstreams.quay.io.enabled is false; keep one"
    ]
