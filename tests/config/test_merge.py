"""Keys of docker distribution: honoured, without effect, or refused; kinds of auth and storage."""

from __future__ import annotations

from functools import reduce
from pathlib import Path

import pytest

from config import keys
from config.distribution import ROWS, Row, Verdict
from config.keys import Setting
from tests.config.desk import Desk


@pytest.mark.parametrize(
    "text",
    [
        "storage: {s3: {bucket: b}}",
        "storage: {s3: }",
        "storage: s3",
        "storage: {azure: {accountname: a}}",
        "storage: {gcs: {bucket: b}}",
        "storage: {swift: {}}",
        "storage: {rados: {poolname: p}}",
        "storage: {oss: {}}",
        "storage: inmemory",
        "storage: {maintenance: {readonly: {enabled: true}}}",
        "storage: {maintenance: {uploadpurging: {enabled: false}}}",
        "storage: {maintenance: {uploadpurging: {dryrun: true}}}",
        "auth: {token: {realm: r, service: s, issuer: i, rootcertbundle: c}}",
        "auth: {silly: {realm: r, service: s}}",
        "auth: silly",
        "middleware: {storage: [{name: cloudfront}]}",
        "middleware: {registry: [{name: a}]}",
        "http: {prefix: /registry/}",
        "http: {net: unix}",
        "http: {tls: {clientcas: [/ca.pem]}}",
        "http: {tls: {clientauth: verify-client-cert-if-given}}",
        "http: {tls: {minimumtls: tls1.3}}",
        "http: {tls: {ciphersuites: [TLS_AES_128_GCM_SHA256]}}",
        "http: {tls: {letsencrypt: {cachefile: /c}}}",
        "validation: {manifests: {urls: {deny: [a]}}}",
        "policy: {repository: {classes: [image]}}",
        "proxy: {exec: {command: docker-credential-helper}}",
        "proxy: {ttl: 168h}",
    ],
)
def test_what_protects_or_places_data_and_is_not_built_is_refused(desk: Desk, text: str) -> None:
    """Never ignored: its operator would believe that he has it."""
    desk.write(text)

    (problem,) = desk.problems()
    assert problem.startswith("config.yml:1: ")
    assert ": refused: " in problem


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REGISTRY_STORAGE", "s3"),
        ("REGISTRY_STORAGE_S3_BUCKET", "images"),
        ("REGISTRY_STORAGE_MAINTENANCE_READONLY", '{"enabled": true}'),
        ("REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED", "true"),
        ("REGISTRY_AUTH_TOKEN_REALM", "https://auth.example"),
        ("REGISTRY_AUTH", "token"),
        ("REGISTRY_HTTP_TLS_CLIENTCAS", "[/ca.pem]"),
        ("REGISTRY_HTTP_TLS_LETSENCRYPT_EMAIL", "a@b"),
        ("REGISTRY_PROXY_TTL", "24h"),
    ],
)
def test_a_variable_is_refused_as_its_key_is(desk: Desk, name: str, value: str) -> None:
    """And named as it was written, without its value."""
    (problem,) = desk.problems(**{name: value})

    assert problem.startswith(f"{name}: refused: ")


def test_the_age_of_a_proxy_points_to_ours(desk: Desk) -> None:
    """Theirs counts from the fetch, ours from the last use: not to be taken for the other."""
    (problem,) = desk.problems("--proxy.ttl=168h")

    assert "CLEANER_TTL" in problem


@pytest.mark.parametrize(
    "text",
    [
        "storage: {maintenance: {readonly: {enabled: false}}}",
        "storage: {maintenance: {uploadpurging: {enabled: true, age: 168h, dryrun: false}}}",
        "http: {net: tcp, prefix: /}",
        "http: {tls: {clientcas: [], minimumtls: tls1.2, letsencrypt: {}}}",
        "middleware: {registry: []}",
        "http: {relativeurls: true, http2: {disabled: false}, headers: {}}",
        "http: {debug: {prometheus: {enabled: true, path: /metrics}}}",
        "log: {accesslog: {disabled: false}, fields: {}, hooks: []}",
        "storage: {redirect: {disable: true}}",
        "notifications: {endpoints: []}",
        "validation: {disabled: false}",
        "compatibility: {schema1: {enabled: false}}",
        "health: {file: [], http: [], tcp: []}",
        "redis: {}",
    ],
)
def test_what_changes_nothing_is_taken_in_silence(desk: Desk, text: str) -> None:
    """Among it the values of refused keys that ask for nothing."""
    desk.write(text)

    assert (desk.problems(), desk.warnings()) == ([], [])


@pytest.mark.parametrize(
    "text",
    [
        "notifications: {endpoints: [{name: a, url: 'http://b'}]}",
        "log: {hooks: [{type: mail}]}",
        "reporting: {bugsnag: {apikey: k}}",
        "http: {debug: {addr: ':5001'}}",
        "http: {http2: {disabled: true}}",
        "health: {file: [{file: /down}]}",
        "compatibility: {schema1: {enabled: true}}",
        "storage: {maintenance: {uploadpurging: {age: 24h}}}",
    ],
)
def test_what_has_no_effect_is_a_warning(desk: Desk, text: str) -> None:
    """It neither protects nor places data: the appliance starts."""
    desk.write(text)

    assert desk.problems() == []
    (warning,) = desk.warnings()
    assert ": without effect: " in warning


@pytest.mark.parametrize(
    "row",
    [each for each in ROWS if each.verdict is Verdict.WITHOUT_EFFECT],
    ids=lambda row: str(row.key),
)
def test_each_key_without_effect_is_one_warning_with_a_remedy(desk: Desk, row: Row) -> None:
    """In the file and in the environment; none is ignored in silence."""
    path = row.key.removesuffix(".**").split(".")
    desk.write(reduce(lambda below, name: f"{{{name}: {below}}}", reversed(path), "[x]"))

    assert desk.warnings() == [
        f"config.yml:1: {'.'.join(path)}: without effect: {row.why}; {row.instead}"
    ]
    desk.write("")
    variable = "_".join(("REGISTRY", *path)).upper()
    assert desk.warnings(**{variable: "x"}) == [
        f"{variable}: without effect: {row.why}; {row.instead}"
    ]


@pytest.mark.parametrize("ttl", ["0", "0s", "0h"])
def test_a_proxy_s_ttl_of_nothing_is_a_warning(desk: Desk, ttl: str) -> None:
    """It says that nothing expires by its age, which CLEANER_TTL decides here."""
    desk.write(f"proxy: {{ttl: {ttl}}}")

    assert desk.problems() == []
    (warning,) = desk.warnings()
    assert warning.startswith("config.yml:1: proxy.ttl: without effect: ")
    assert "CLEANER_TTL" in warning


def test_a_later_source_may_take_back_what_is_refused(desk: Desk) -> None:
    """What counts is what is in force."""
    desk.write("storage: {maintenance: {readonly: {enabled: true}}}")

    assert desk.problems(REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED="false") == []


def test_loglevel_is_the_old_name_of_log_level(desk: Desk) -> None:
    """And counts for less."""
    assert desk.settings(REGISTRY_LOGLEVEL="debug").log.level == "debug"
    assert desk.settings("--log.level=warn", REGISTRY_LOGLEVEL="debug").log.level == "warn"


# ---- kinds


@pytest.mark.parametrize(
    "text",
    ["auth: {htpasswd: {path: /h, realm: r}}", "auth: htpasswd", "auth: {htpasswd: }"],
)
def test_auth_in_the_file_and_its_path_in_the_environment(desk: Desk, text: str) -> None:
    """REGISTRY_AUTH_HTPASSWD_PATH completes what the file names."""
    desk.write(text)
    htpasswd = desk.settings(REGISTRY_AUTH_HTPASSWD_PATH="/p").auth.htpasswd

    assert htpasswd is not None
    assert Path("/p") == htpasswd.path


def test_registry_auth_names_the_scheme(desk: Desk) -> None:
    """As with docker distribution."""
    htpasswd = desk.settings(
        REGISTRY_AUTH="htpasswd",
        REGISTRY_AUTH_HTPASSWD_REALM="Ours",
        REGISTRY_AUTH_HTPASSWD_PATH="/p",
    ).auth.htpasswd

    assert htpasswd is not None
    assert ("Ours", Path("/p")) == (htpasswd.realm, htpasswd.path)


def test_a_path_alone_switches_passwords_on(desk: Desk) -> None:
    """Nobody who names a password file means an open registry."""
    assert desk.settings(REGISTRY_AUTH_HTPASSWD_PATH="/p").auth.htpasswd is not None


@pytest.mark.parametrize(
    ("text", "environ", "source"),
    [
        ("", {"REGISTRY_AUTH": "htpasswd"}, "REGISTRY_AUTH"),
        ("", {"REGISTRY_AUTH_HTPASSWD_REALM": "r"}, "REGISTRY_AUTH_HTPASSWD_REALM"),
        ("auth: {htpasswd: {path: }}", {}, "config.yml:1: auth.htpasswd"),
        ("auth: {htpasswd: }", {}, "config.yml:1: auth.htpasswd"),
        ("auth: htpasswd", {}, "config.yml:1: auth.htpasswd"),
    ],
    ids=range(5),
)
def test_passwords_without_a_file_are_an_error(
    desk: Desk, text: str, environ: dict[str, str], source: str
) -> None:
    """Whatever else was said, it never starts open."""
    desk.write(text)

    remedy = "name a file made with htpasswd -B"
    assert [f"{source}: auth.htpasswd.path is missing; {remedy}"] == desk.problems(**environ)


def test_an_empty_path_is_an_error(desk: Desk) -> None:
    """A variable that was not filled in must not open the door."""
    (problem,) = desk.problems(REGISTRY_AUTH_HTPASSWD_PATH="")

    assert problem.startswith("REGISTRY_AUTH_HTPASSWD_PATH=: empty; ")


def test_another_scheme_in_the_environment_switches_the_file_s_off(desk: Desk) -> None:
    """REGISTRY_AUTH over `auth:`, its parameters too."""
    desk.write("auth: {token: {realm: r}, anonymous: pull}")
    auth = desk.settings(REGISTRY_AUTH="htpasswd", REGISTRY_AUTH_HTPASSWD_PATH="/p").auth

    assert auth.htpasswd is not None
    assert auth.anonymous == "pull"


def test_auth_none_is_open(desk: Desk) -> None:
    """As with docker distribution."""
    desk.write("auth: {htpasswd: {path: /p}}")

    assert desk.settings(REGISTRY_AUTH="none").auth.htpasswd is None


def test_two_kinds_of_auth_in_one_place_are_told(desk: Desk) -> None:
    """There is at most one."""
    (problem,) = desk.problems(REGISTRY_AUTH="none", REGISTRY_AUTH_HTPASSWD_PATH="/p")

    assert problem == "REGISTRY_AUTH: a second kind of auth; keep one"


def test_another_driver_in_the_environment_switches_the_file_s_off(desk: Desk) -> None:
    """REGISTRY_STORAGE over `storage:`; what is no driver stays."""
    desk.write("storage: {s3: {bucket: b}, delete: {enabled: true}}")

    assert desk.settings(REGISTRY_STORAGE="filesystem").storage.delete.enabled


# ---- the table


def test_every_honoured_key_is_a_setting() -> None:
    """But for two that have no value of their own."""
    names = [row.key for row in ROWS if row.verdict is Verdict.HONOURED]
    found = [name for name in names if isinstance(keys.find(tuple(name.split("."))), Setting)]

    assert {"loglevel", "auth.none.**"} == set(names) - set(found)


def test_every_other_key_is_no_setting() -> None:
    """What is told of it is the row."""
    for row in ROWS:
        if row.verdict is not Verdict.HONOURED:
            found = keys.find(tuple(row.key.replace(".**", ".below").split(".")))
            assert isinstance(found, Row)
            assert row.key == found.key


def test_every_key_has_a_reason_unless_it_is_honoured() -> None:
    """And is told once."""
    assert all(row.why for row in ROWS if row.verdict is not Verdict.HONOURED)
    assert len(ROWS) == len({row.key for row in ROWS})


@pytest.mark.parametrize(
    ("pattern", "key", "expected"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a", False),
        ("a.b", "a.b.c", False),
        ("a.**", "a", True),
        ("a.**", "a.b.c", True),
        ("a.**", "b", False),
        ("a.*.c", "a.x.c", True),
        ("a.*.c", "a.c", False),
    ],
)
def test_a_row_is_about_its_key(pattern: str, key: str, *, expected: bool) -> None:
    """`*` is one name, `**` the key itself and all below."""
    assert expected is Row(pattern, Verdict.HONOURED).matches(tuple(key.split(".")))
