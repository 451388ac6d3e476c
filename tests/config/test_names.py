"""An unknown name is a problem or a warning, with a suggestion."""

from __future__ import annotations

import pytest

from tests.config.desk import Desk


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
    desk: Desk, text: str, expected: str
) -> None:
    """An unknown key is a problem with a suggestion.

    Any number of keys below an unknown key causes no further problem.
    """
    desk.write(text)

    expected = expected.replace("{", "did you mean ").replace("}", "?")
    assert [expected] == desk.problems()


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
def test_an_unknown_key_that_protects_nothing_is_a_warning(desk: Desk, text: str) -> None:
    """An unknown key that protects nothing is a warning.

    Docker distribution ignores an unknown key.
    """
    desk.write(text)

    assert desk.problems() == []
    (warning,) = desk.warnings()
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
def test_a_key_similar_to_a_protecting_key_is_a_problem(desk: Desk, text: str) -> None:
    """A key similar to a protecting key is a problem, also if the protecting key is refused.

    The operator expects an effect.
    """
    desk.write(text)

    (problem,) = desk.problems()
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
    desk: Desk, flag: str, expected: str
) -> None:
    """An unknown flag is a problem with a suggestion and without its value.

    The value of an unknown flag may be a password.
    """
    assert [expected] == desk.problems(flag)


def test_the_value_of_an_unknown_flag_is_not_taken_for_a_file(desk: Desk) -> None:
    """The value of an unknown flag is not taken for a file, so one mistake causes one line."""
    assert len(desk.problems("--cleaner.maxsze", "10G")) == 1


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
    desk: Desk, name: str, near: str
) -> None:
    """An unknown variable is a warning with a suggestion.

    Other programs share the environment, so an unknown variable must not prevent the start.
    """
    assert desk.problems(**{name: "hunter2"}) == []
    assert [f"{name}: no such setting; did you mean {near}?"] == desk.warnings(**{name: "hunter2"})


def test_a_misspelt_protecting_variable_is_a_problem(desk: Desk) -> None:
    """A misspelt variable of a protecting setting is a problem.

    Otherwise the appliance would be open to all, against the operator's intention.
    """
    assert desk.problems(REGISTRY_AUTH_HTPASWD_PATH="/x") == [
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
def test_variables_of_other_programs_are_ignored(desk: Desk, name: str) -> None:
    """Variables of other programs are ignored.

    Service links of Kubernetes, podman's auth file, and internal variables are such variables.
    """
    assert (desk.problems(**{name: "x"}), desk.warnings(**{name: "x"})) == ([], [])


@pytest.mark.parametrize("name", ["REGISTRY_HTTP_PORT", "REGISTRY_PORT", "ENTREPOT_PORT"])
def test_a_port_that_no_service_link_has_is_a_warning(desk: Desk, name: str) -> None:
    """A variable with a plain port is a warning: a service link begins with `tcp://`."""
    assert desk.warnings(**{name: "8080"}) == [
        f"{name}: no such setting; write REGISTRY_HTTP_ADDR=:8080"
    ]
    assert desk.warnings(**{name: "tcp://10.96.0.17:8080"}) == []


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
    desk: Desk, name: str, meant: str
) -> None:
    """Each misspelling of a protecting variable is a problem, not only a warning.

    The misspelling may be in the prefix, in a word, or one letter.
    """
    assert desk.problems(**{name: "x"}) == [f"{name}: no such setting; did you mean {meant}?"]


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
def test_similar_variables_of_other_programs_are_no_problem(desk: Desk, name: str) -> None:
    """Variables that other programs read are no problem, although they are similar."""
    assert desk.problems(**{name: "true"}) == []


def test_another_misspelt_name_is_a_warning(desk: Desk) -> None:
    """A misspelt variable that protects nothing is a warning: the default does no harm."""
    assert desk.problems(CLEANER_TLT="7d") == []
    assert desk.warnings(CLEANER_TLT="7d") == [
        "CLEANER_TLT: no such setting; did you mean CLEANER_TTL?"
    ]
