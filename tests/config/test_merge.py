"""Test keys of docker distribution, and the choice of auth scheme and storage driver."""

from __future__ import annotations

from functools import reduce
from pathlib import Path

import pytest

from entrepot.config import keys
from entrepot.config.distribution import ROWS, DistributionKey, KeySupport
from entrepot.config.keys import Setting
from tests.config.config_folder import ConfigFolder


@pytest.mark.parametrize(
    "text",
    [
        "storage: {gcs: {bucket: b}}",
        "storage: {swift: {}}",
        "storage: {rados: {poolname: p}}",
        "storage: {azure: {accountname: a, accountkey: YQ==, container: c, connectionstring: d}}",
        "storage: {azure: {accountname: a, accountkey: YQ==, container: c, legacyrootprefix: on}}",
        "storage: {s3aws: {bucket: b}}",
        "storage: {s3: {region: r, bucket: b, v4auth: false}}",
        "storage: {s3: {region: r, bucket: b, objectacl: public-read}}",
        "http: {tls: {letsencrypt: {cachefile: /c}}}",
    ],
)
def test_an_unsupported_key_that_protects_or_places_data_is_refused(
    config_folder: ConfigFolder, text: str
) -> None:
    """An unsupported key that protects data, or states where data is stored, is refused."""
    config_folder.write(text)

    (problem,) = config_folder.problems()
    assert problem.startswith("config.yml:1: ")
    assert ": refused: " in problem


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REGISTRY_STORAGE", "swift"),
        ("REGISTRY_STORAGE_SWIFT_CONTAINER", "images"),
        ("REGISTRY_HTTP_TLS_LETSENCRYPT_EMAIL", "a@b"),
    ],
)
def test_a_variable_of_a_refused_key_is_refused(
    config_folder: ConfigFolder, name: str, value: str
) -> None:
    """A variable of a refused key is refused; the message has its name, but not its value."""
    (problem,) = config_folder.problems(**{name: value})

    assert problem.startswith(f"{name}: refused: ")


@pytest.mark.parametrize(("ttl", "seconds"), [("168h", 604_800.0), ("0", 0.0), ("0s", 0.0)])
def test_proxy_ttl_is_another_name_of_cleaner_ttl(
    config_folder: ConfigFolder, ttl: str, seconds: float
) -> None:
    """`proxy.ttl` of docker distribution is another name of `cleaner.ttl`."""
    config_folder.write(f"proxy: {{ttl: {ttl}}}")

    assert config_folder.settings().cleaner.ttl == seconds
    assert config_folder.warnings() == []
    assert config_folder.settings(REGISTRY_PROXY_TTL="1h").cleaner.ttl == 3600.0
    assert config_folder.settings(CLEANER_TTL="1d").cleaner.ttl == 86400.0


def test_an_empty_or_invalid_proxy_ttl_is_reported_under_its_name(
    config_folder: ConfigFolder,
) -> None:
    """An empty `proxy.ttl` sets no value; an invalid one is a problem with the name as written."""
    config_folder.write("proxy: {ttl: }")
    assert config_folder.settings().cleaner.ttl == 30 * 86400.0

    assert config_folder.problems(REGISTRY_PROXY_TTL="soon") == [
        "REGISTRY_PROXY_TTL=soon: not a span; try 1h30m, 30d or 60s"
    ]


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
        "log: {accesslog: {disabled: true}, fields: {}, hooks: []}",
        "storage: {redirect: {disable: true}}",
        "notifications: {endpoints: []}",
        "validation: {disabled: false}",
        "compatibility: {schema1: {enabled: false}}",
        "health: {file: [], http: [], tcp: []}",
        "redis: {}",
    ],
)
def test_a_value_that_requests_the_normal_behaviour_causes_no_message(
    config_folder: ConfigFolder, text: str
) -> None:
    """A value that requests the appliance's normal behaviour causes no message."""
    config_folder.write(text)

    assert (config_folder.problems(), config_folder.warnings()) == ([], [])


@pytest.mark.parametrize(
    "text",
    [
        "compatibility: {schema1: {signingkeyfile: /k}}",
        "compatibility: {schema1: {enabled: true}}",
    ],
)
def test_a_key_without_effect_is_a_warning(config_folder: ConfigFolder, text: str) -> None:
    """A key without effect causes a warning, unless it protects data or selects the storage."""
    config_folder.write(text)

    assert config_folder.problems() == []
    (warning,) = config_folder.warnings()
    assert ": without effect: " in warning


@pytest.mark.parametrize(
    "row",
    [each for each in ROWS if each.verdict is KeySupport.WITHOUT_EFFECT],
    ids=lambda row: str(row.key),
)
def test_each_key_without_effect_is_one_warning_with_a_remedy(
    config_folder: ConfigFolder, row: DistributionKey
) -> None:
    """Each key without effect, in the file or in a variable, causes one warning with a remedy."""
    path = row.key.removesuffix(".**").split(".")
    config_folder.write(reduce(lambda below, name: f"{{{name}: {below}}}", reversed(path), "[x]"))

    assert config_folder.warnings() == [
        f"config.yml:1: {'.'.join(path)}: without effect: {row.why}; {row.instead}"
    ]
    config_folder.write("")
    variable = "_".join(("REGISTRY", *path)).upper()
    assert config_folder.warnings(**{variable: "x"}) == [
        f"{variable}: without effect: {row.why}; {row.instead}"
    ]


def test_a_source_with_precedence_may_override_a_refused_value(config_folder: ConfigFolder) -> None:
    """A variable or flag may override a value in the file that the appliance would refuse.

    Only the resulting value is examined.
    """
    config_folder.write("storage: {s3: {bucket: b}}")

    assert config_folder.problems(REGISTRY_STORAGE="filesystem") == []


def test_loglevel_is_the_old_name_of_log_level(config_folder: ConfigFolder) -> None:
    """`loglevel` is the old name of `log.level` and has lower precedence."""
    assert config_folder.settings(REGISTRY_LOGLEVEL="debug").log.level == "debug"
    assert config_folder.settings("--log.level=warn", REGISTRY_LOGLEVEL="debug").log.level == "warn"


# ---- the auth scheme and the storage driver


@pytest.mark.parametrize(
    "text",
    ["auth: {htpasswd: {path: /h, realm: r}}", "auth: htpasswd", "auth: {htpasswd: }"],
)
def test_auth_in_the_file_and_its_path_in_the_environment(
    config_folder: ConfigFolder, text: str
) -> None:
    """REGISTRY_AUTH_HTPASSWD_PATH completes the auth section of the file."""
    config_folder.write(text)
    htpasswd = config_folder.settings(REGISTRY_AUTH_HTPASSWD_PATH="/p").auth.htpasswd

    assert htpasswd is not None
    assert Path("/p") == htpasswd.path


def test_registry_auth_names_the_scheme(config_folder: ConfigFolder) -> None:
    """REGISTRY_AUTH names the auth scheme, as in docker distribution."""
    htpasswd = config_folder.settings(
        REGISTRY_AUTH="htpasswd",
        REGISTRY_AUTH_HTPASSWD_REALM="Ours",
        REGISTRY_AUTH_HTPASSWD_PATH="/p",
    ).auth.htpasswd

    assert htpasswd is not None
    assert ("Ours", Path("/p")) == (htpasswd.realm, htpasswd.path)


def test_a_path_alone_switches_passwords_on(config_folder: ConfigFolder) -> None:
    """The path of a password file switches passwords on, even without other settings.

    An operator who names a password file does not expect an open registry.
    """
    assert config_folder.settings(REGISTRY_AUTH_HTPASSWD_PATH="/p").auth.htpasswd is not None


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
def test_passwords_without_users_are_a_problem(
    config_folder: ConfigFolder, text: str, environ: dict[str, str], source: str
) -> None:
    """`auth.htpasswd` without a path is a problem: the appliance never starts open to all."""
    config_folder.write(text)

    remedy = "name a file made with htpasswd -B"
    assert [f"{source}: auth.htpasswd.path is missing; {remedy}"] == config_folder.problems(
        **environ
    )


def test_an_empty_path_is_a_problem(config_folder: ConfigFolder) -> None:
    """An empty path of the password file is a problem.

    Otherwise a variable that is empty by mistake would open the registry.
    """
    (problem,) = config_folder.problems(REGISTRY_AUTH_HTPASSWD_PATH="")

    assert problem.startswith("REGISTRY_AUTH_HTPASSWD_PATH=: empty; ")


def test_a_scheme_in_the_environment_replaces_that_of_the_file(config_folder: ConfigFolder) -> None:
    """REGISTRY_AUTH overrides the auth scheme of the file, including the scheme's parameters."""
    config_folder.write("auth: {token: {realm: r}, anonymous: pull}")
    auth = config_folder.settings(REGISTRY_AUTH="htpasswd", REGISTRY_AUTH_HTPASSWD_PATH="/p").auth

    assert auth.htpasswd is not None
    assert auth.anonymous == "pull"


def test_auth_none_is_open(config_folder: ConfigFolder) -> None:
    """REGISTRY_AUTH=none allows all requests, as in docker distribution."""
    config_folder.write("auth: {htpasswd: {path: /p}}")

    assert config_folder.settings(REGISTRY_AUTH="none").auth.htpasswd is None


def test_two_auth_schemes_are_a_problem(config_folder: ConfigFolder) -> None:
    """Two auth schemes are a problem, because at most one can be in force."""
    (problem,) = config_folder.problems(REGISTRY_AUTH="none", REGISTRY_AUTH_HTPASSWD_PATH="/p")

    assert problem == "REGISTRY_AUTH: a second auth scheme; keep one"


def test_a_driver_in_the_environment_replaces_that_of_the_file(config_folder: ConfigFolder) -> None:
    """REGISTRY_STORAGE replaces the driver of the file; other keys of `storage:` remain valid."""
    config_folder.write("storage: {s3: {bucket: b}, delete: {enabled: true}}")

    assert config_folder.settings(REGISTRY_STORAGE="filesystem").storage.delete.enabled


# ---- the table of docker distribution's keys


def test_every_honoured_key_is_a_setting() -> None:
    """Every honoured key of distribution is a setting, except the keys that this test lists.

    The test lists other names of a setting, keys whose value the appliance does not need, and
    single entries of a map or list.
    """
    names = [row.key for row in ROWS if row.verdict is KeySupport.HONOURED]
    found = [name for name in names if isinstance(keys.find(tuple(name.split("."))), Setting)]

    without = {"loglevel", "proxy.ttl", "auth.none.**", "http.secret", "http.h2c.enabled"}
    entries = {"http.headers.*", "http.tls.clientcas.*", "http.tls.ciphersuites.*"}
    entries |= {"log.fields.*", "log.hooks.*.**", "notifications.endpoints.**"}
    entries |= {"health.file.*.**", "health.http.*.**", "health.tcp.*.**"}
    entries |= {"middleware.registry.**", "middleware.repository.**", "middleware.storage.**"}
    entries |= {"auth.token.signingalgorithms.*", "policy.repository.classes.*"}
    entries |= {"validation.manifests.urls.allow.*", "validation.manifests.urls.deny.*"}
    entries |= {"validation.manifests.indexes.platformlist.*.*"}
    assert without | entries == set(names) - set(found)


def test_every_other_key_is_no_setting() -> None:
    """For a key that is not honoured, `find` returns the key's row of the table, and no setting."""
    for row in ROWS:
        if row.verdict is not KeySupport.HONOURED:
            found = keys.find(tuple(row.key.replace(".**", ".below").split(".")))
            assert isinstance(found, DistributionKey)
            assert row.key == found.key


def test_every_key_has_a_reason_unless_it_is_honoured() -> None:
    """Every key of distribution that is not honoured has a reason; each key is listed once."""
    assert all(row.why for row in ROWS if row.verdict is not KeySupport.HONOURED)
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
def test_a_row_matches_its_key(pattern: str, key: str, *, expected: bool) -> None:
    """In a row's key, `*` matches one name; `a.**` matches the key `a` and all keys below it."""
    assert expected is DistributionKey(pattern, KeySupport.HONOURED).matches(tuple(key.split(".")))


def test_several_keys_of_one_section_are_one_line(config_folder: ConfigFolder) -> None:
    """Variables for several keys of one unsupported section cause only one line."""
    driver = {
        "REGISTRY_STORAGE_SWIFT_USERNAME": "a",
        "REGISTRY_STORAGE_SWIFT_PASSWORD": "b",
        "REGISTRY_STORAGE_SWIFT_CONTAINER": "c",
    }
    (problem,) = config_folder.problems(**driver)
    (warning,) = config_folder.warnings(REGISTRY_REDIS_ADDR="a:1", REGISTRY_REDIS_DB="1")

    assert ": refused with 2 more keys of storage.swift: the driver is not" in problem
    assert warning.startswith("REGISTRY_REDIS_ADDR: without effect with 1 more key of redis: ")
