"""Test the problems and warnings about unknown keys, flags and variables."""

from __future__ import annotations

import pytest

from tests.config.config_folder import ConfigFolder


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cleaner: {maxsze: 1G}", "config.yml:1: cleaner.maxsze: no such key; {cleaner.maxsize}"),
        ("cleanr: {maxsize: 1G, ttl: 1d}", "config.yml:1: cleanr: no such key; {cleaner}"),
        ("maxsize: 1G", "config.yml:1: maxsize: no such key; {cleaner.maxsize}"),
        (
            "http: {tls: {cert: a}}",
            "config.yml:1: http.tls.cert: no such key; {http.tls.certificate}",
        ),
        ("auth: {htpaswd: {path: a}}", "config.yml:1: auth.htpaswd: no such key; {auth.htpasswd}"),
        ("auth: ldap", "config.yml:1: auth.ldap: no such key; take it out"),
        ("storage: {file: a}", "config.yml:1: storage.file: no such key; {storage.filesystem}"),
        (
            "upstreams: {a.io: {ulr: b}}",
            "config.yml:1: upstreams.a.io.ulr: no such key; {upstreams.a.io.url}",
        ),
        ("acess: []", "config.yml:1: acess: no such key; {access}"),
        ("htpp: {tls: {certificate: a}}", "config.yml:1: htpp: no such key; {http}"),
        ("http: {adr: 'a:1'}", "config.yml:1: http.adr: no such key; {http.addr}"),
        ("http: {tls: {zzz: a}}", "config.yml:1: http.tls.zzz: no such key; {http.tls.key}"),
        ("proxy: {pasword: a}", "config.yml:1: proxy.pasword: no such key; {proxy.password}"),
        ("proxy: {freshnes: 1m}", "config.yml:1: proxy.freshnes: no such key; {proxy.freshness}"),
    ],
    ids=range(14),
)
def test_an_unknown_key_is_a_problem_with_a_suggestion(
    config_folder: ConfigFolder, text: str, expected: str
) -> None:
    """Some unknown keys, such as misspelt keys of the appliance, are problems with a remedy.

    Keys below an unknown key cause no further problems.
    """
    config_folder.write(text)

    expected = expected.replace("{", "did you mean ").replace("}", "?")
    assert [expected] == config_folder.problems()


@pytest.mark.parametrize(
    "text",
    [
        "zzz: 1",
        "zzz: {path: /a, enabled: true}",
        "http: {host2: a}",
        "http: {timeout: 5m}",
        "log: {format: json}",
        "log: {colour: never}",
        "storage: {cache: {size: 5}}",
        "storage: {maintenance: {zzz: {enabled: true}}}",
        "notifications: {queue: 5}",
        "health: {zzz: 1}",
        "proxy: {zzz: 1}",
        "x-common: &a {b: c}",
    ],
)
def test_an_unknown_key_that_protects_nothing_is_a_warning(
    config_folder: ConfigFolder, text: str
) -> None:
    """An unknown key that protects nothing causes a warning.

    Docker distribution ignores an unknown key.
    """
    config_folder.write(text)

    assert config_folder.problems() == []
    (warning,) = config_folder.warnings()
    assert warning.startswith("config.yml:1: ")
    assert ": no such key; " in warning


@pytest.mark.parametrize(
    "text",
    [
        "storage: {maintenance: {readony: {enabled: true}}}",
        "storage: {maintenance: {read-only: {enabled: true}}}",
        "validation: {manifest: {urls: {deny: [a]}}}",
        "policy: {repositories: {classes: [image]}}",
        "midleware: {storage: [{name: cloudfront}]}",
        "cleaner2: {maxsize: 1G}",
        "htpasswd: {path: /a}",
        "rootdirectory: /a",
        "storage: {rootdirectory: /a}",
        "storage: {delete: {enable: true}}",
    ],
)
def test_a_key_similar_to_a_protecting_key_is_a_problem(
    config_folder: ConfigFolder, text: str
) -> None:
    """An unknown key that resembles a protecting key, such as one for passwords, is a problem.

    The operator may rely on that protection. The message appears even if the appliance also refuses
    the correctly spelt key.
    """
    config_folder.write(text)

    (problem,) = config_folder.problems()
    assert ": no such key; " in problem


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("--cleaner.maxsze=1", "--cleaner.maxsze: no such flag; did you mean --cleaner.maxsize?"),
        ("--maxsize=1", "--maxsize: no such flag; did you mean --cleaner.maxsize?"),
        ("-x", "-x: no such flag; take it out"),
        ("--=1", "--: no such flag; take it out"),
    ],
)
def test_an_unknown_flag_is_a_problem_with_a_suggestion(
    config_folder: ConfigFolder, flag: str, expected: str
) -> None:
    """The problem about an unknown flag has a remedy, but not the value of the flag.

    The value of an unknown flag may be a password.
    """
    assert [expected] == config_folder.problems(flag)


def test_the_value_of_an_unknown_flag_is_not_taken_for_a_file(config_folder: ConfigFolder) -> None:
    """The value of an unknown flag is not read as a file's path, so one mistake causes one line."""
    assert len(config_folder.problems("--cleaner.maxsze", "10G")) == 1


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("CLEANER_MAXSZE", "CLEANER_MAXSIZE"),
        ("ENTREPOT_FRESHNES", "ENTREPOT_FRESHNESS"),
        ("ENTREPOT_WORKER", "ENTREPOT_WORKERS"),
        ("REGISTRY_HTTP_ADDRESS", "REGISTRY_HTTP_ADDR"),
        ("REGISTRY_STORAGE_FILESYSTEM_ROOTDIR", "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY"),
    ],
)
def test_an_unknown_variable_is_a_warning_with_a_suggestion(
    config_folder: ConfigFolder, name: str, near: str
) -> None:
    """An unknown variable causes a warning with a suggestion.

    Other programs share the environment, so an unknown variable must not prevent the start.
    """
    assert config_folder.problems(**{name: "hunter2"}) == []
    assert [f"{name}: no such setting; did you mean {near}?"] == config_folder.warnings(
        **{name: "hunter2"}
    )


def test_a_misspelt_protecting_variable_is_a_problem(config_folder: ConfigFolder) -> None:
    """A misspelt name of a protecting variable, such as one for passwords, is a problem.

    Otherwise the appliance could be open to all, against the operator's intention.
    """
    assert config_folder.problems(REGISTRY_AUTH_HTPASWD_PATH="/x") == [
        "REGISTRY_AUTH_HTPASWD_PATH: no such setting; did you mean REGISTRY_AUTH_HTPASSWD_PATH?"
    ]


@pytest.mark.parametrize(
    "name",
    [
        "REGISTRY_PORT",
        "REGISTRY_SERVICE_HOST",
        "REGISTRY_SERVICE_PORT_HTTP",
        "REGISTRY_PORT_5000_TCP_ADDR",
        "REGISTRY_AUTH_SERVICE_HOST",
        "ENTREPOT_PORT",
        "REGISTRY_AUTH_FILE",
        "ENTREPOT_RUN",
        "ENTREPOT_WORKER1",
        "ENTREPOT_TEST_SIZE",
        "CLEANER_BTWDELETES_TIME",
        "PATH",
        "REGISTRYFOO",
    ],
)
def test_variables_of_other_programs_are_ignored(config_folder: ConfigFolder, name: str) -> None:
    """Variables of other programs are ignored: service links of Kubernetes, podman's auth file.

    The internal variables of the appliance are ignored too.
    """
    assert (config_folder.problems(**{name: "x"}), config_folder.warnings(**{name: "x"})) == (
        [],
        [],
    )


@pytest.mark.parametrize("name", ["REGISTRY_HTTP_PORT", "REGISTRY_PORT", "ENTREPOT_PORT"])
def test_a_port_that_no_service_link_has_is_a_warning(
    config_folder: ConfigFolder, name: str
) -> None:
    """A variable such as ENTREPOT_PORT with a plain number causes a warning.

    The value of a variable that Kubernetes makes for a service begins with `tcp://`, and is
    ignored.
    """
    assert config_folder.warnings(**{name: "8080"}) == [
        f"{name}: no such setting; write REGISTRY_HTTP_ADDR=:8080"
    ]
    assert config_folder.warnings(**{name: "tcp://10.96.0.17:8080"}) == []


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("REGISTRY_ACCES", "REGISTRY_ACCESS"),
        ("REGISTRY_ACCESSS", "REGISTRY_ACCESS"),
        ("ENTREPOT_ACCESS", "REGISTRY_ACCESS"),
        ("REGISTRY_HTTP_TLS_CERTIFICAT", "REGISTRY_HTTP_TLS_CERTIFICATE"),
        ("REGISTRY_HTTP_TLS_CERT", "REGISTRY_HTTP_TLS_CERTIFICATE"),
        ("REGISTRY_HTTP_TSL_CERTIFICATE", "REGISTRY_HTTP_TLS_CERTIFICATE"),
        ("REGISTRY_HTTP_CERTIFICATE", "REGISTRY_HTTP_TLS_CERTIFICATE"),
        ("ENTREPOT_TLS_CERTIFICATE", "REGISTRY_HTTP_TLS_CERTIFICATE"),
        ("REGISTRY_HTTP_TLS_KEYS", "REGISTRY_HTTP_TLS_KEY"),
        ("REGISTY_AUTH_HTPASSWD_PATH", "REGISTRY_AUTH_HTPASSWD_PATH"),
        ("REGISTRY_AUHT_HTPASSWD_PATH", "REGISTRY_AUTH_HTPASSWD_PATH"),
        ("REGISTRY_HTPASSWD_PATH", "REGISTRY_AUTH_HTPASSWD_PATH"),
        ("REGISTRY_ANONYMOUS", "REGISTRY_AUTH_ANONYMOUS"),
        ("DCS_AUTH_USER", "DCS_AUTH_USERS"),
    ],
)
def test_each_misspelling_of_a_protecting_variable_is_a_problem(
    config_folder: ConfigFolder, name: str, meant: str
) -> None:
    """Each misspelling of a protecting variable is a problem, not only a warning.

    The misspelling may be in the prefix or in a word, or a word may be missing.
    """
    assert config_folder.problems(**{name: "x"}) == [
        f"{name}: no such setting; did you mean {meant}?"
    ]


@pytest.mark.parametrize(
    "name",
    [
        "REGISTRY_AUTH_FILE",
        "REGISTRY_TLS_SERVICE_HOST",
        "REGISTRY_PORT_5000_TCP",
        "HTTP_TLS_CERTIFICATE",
        "MY_AUTH_HTPASSWD",
        "AWS_ACCESS_KEY_ID",
        "REGISTRY_LOG_ACCESSLOG_DISABLED",
    ],
)
def test_similar_variables_of_other_programs_are_no_problem(
    config_folder: ConfigFolder, name: str
) -> None:
    """Variables of other programs are no problem, although they resemble protecting variables."""
    assert config_folder.problems(**{name: "true"}) == []


def test_another_misspelt_name_is_a_warning(config_folder: ConfigFolder) -> None:
    """A misspelt variable that protects nothing causes only a warning: its default does no harm."""
    assert config_folder.problems(CLEANER_TLT="7d") == []
    assert config_folder.warnings(CLEANER_TLT="7d") == [
        "CLEANER_TLT: no such setting; did you mean CLEANER_TTL?"
    ]
