"""Test `parse`, which reads the registries and the credentials of a pull secret."""

from __future__ import annotations

import base64
import json

import pytest

from entrepot.config.credential import SecretCredential
from entrepot.config.errors import ConfigError
from entrepot.config.pull_secret import ParsedPullSecret, parse


def _auth(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _secret(auths: dict[str, object], *ignore: str) -> ParsedPullSecret:
    return parse(json.dumps({"auths": auths}).encode(), ignore)


def _problems(auths: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(json.dumps({"auths": auths}).encode())
    return [str(each) for each in caught.value.problems]


def test_an_auth_is_user_and_password_in_base64() -> None:
    """An `auth` is user and password in base64, as `docker login` writes it."""
    secret = _secret({"quay.io": {"auth": _auth("robot:secret")}})

    assert SecretCredential("robot", "secret") == secret.lookup("quay.io", "a/b")


@pytest.mark.parametrize("wrapped", [b"\n", b""], ids=["in lines", "in one"])
def test_a_secret_may_be_in_base64(wrapped: bytes) -> None:
    """A pull secret may be in base64.

    Kubernetes manifests contain a pull secret in base64, and podman 4.3 mounts it without decoding
    it.
    """
    document = json.dumps({"auths": {"quay.io": {"auth": _auth("robot:secret")}}}).encode()
    text = base64.b64encode(document)

    secret = parse(text[:40] + wrapped + text[40:] + wrapped)

    assert SecretCredential("robot", "secret") == secret.lookup("quay.io", "a/b")


@pytest.mark.parametrize("text", [b"bm8ganNvbiBoZXJl", b"bnVsbA==", b"null", b"e30", b"%%%="])
def test_base64_of_an_invalid_secret_is_an_error(text: bytes) -> None:
    """If a pull secret in base64 is invalid after decoding, the error is about the decoded text."""
    with pytest.raises(ConfigError) as caught:
        parse(text)

    assert "not " in str(caught.value)


def test_a_password_may_contain_colons() -> None:
    """A password in a pull secret may contain colons: only the first colon is a separator."""
    secret = _secret({"quay.io": {"auth": _auth("robot:with:colons:")}})

    assert SecretCredential("robot", "with:colons:") == secret.lookup("quay.io", "a/b")


def test_username_and_password_are_valid_without_auth() -> None:
    """`username` and `password` are valid without `auth`.

    `kubectl create secret docker-registry` writes `auth`, `username` and `password`.
    """
    secret = _secret({"quay.io": {"username": "robot", "password": "secret"}})

    assert SecretCredential("robot", "secret") == secret.lookup("quay.io", "a/b")


def test_auth_takes_precedence_over_username_and_password() -> None:
    """`auth` takes precedence over `username` and `password`, as in Docker and the kubelet."""
    entry = {"auth": _auth("a:b"), "username": "c", "password": "d"}

    assert SecretCredential("a", "b") == _secret({"quay.io": entry}).lookup("quay.io", "x")


def test_an_identity_token_is_kept() -> None:
    """An identity token is read, even beside an empty password, as Azure's login writes it."""
    entry = {"auth": _auth("00000000:"), "identitytoken": "token"}

    assert SecretCredential("00000000", "", "token") == _secret({"r.io": entry}).lookup("r.io", "x")


@pytest.mark.parametrize("entry", [{}, {"email": "a@b"}, {"auth": ""}, {"auth": _auth(":")}])
def test_an_entry_without_credentials_is_an_anonymous_upstream(entry: dict[str, str]) -> None:
    """An entry without credentials declares an upstream, which is used without a login."""
    secret = _secret({"quay.io": entry})

    assert secret.names("quay.io")
    assert secret.lookup("quay.io", "a/b") is None


def test_the_longest_path_takes_precedence() -> None:
    """The entry with the longest matching path is used.

    Paths are compared by whole components, so `our` does not match `ours`.
    """
    secret = _secret(
        {
            "quay.io": {"auth": _auth("a:1")},
            "quay.io/our": {"auth": _auth("b:2")},
            "quay.io/our/app": {"auth": _auth("c:3")},
            "quay.io/open": {},
        }
    )

    names = ["our/app", "our/app/x", "our/tool", "ours/app", "open/app"]
    found = [secret.lookup("quay.io", name) for name in names]
    assert [each and each.username for each in found] == ["c", "c", "b", "a", None]


def test_an_entry_with_a_path_declares_its_host() -> None:
    """An entry with a path makes its host an upstream; other paths are pulled without a login."""
    secret = _secret({"quay.io/our": {"auth": _auth("b:2")}})

    assert secret.hosts == ("quay.io",)
    assert secret.lookup("quay.io", "other/app") is None


@pytest.mark.parametrize(
    "key",
    [
        "https://index.docker.io/v1/",
        "index.docker.io",
        "https://index.docker.io/v2/",
        "registry-1.docker.io",
        "docker.io",
        "Docker.IO",
        "http://docker.io/",
    ],
)
def test_every_name_of_docker_hub_is_docker_io(key: str) -> None:
    """Every name of Docker Hub in a pull secret, including the legacy key, means docker.io."""
    secret = _secret({key: {"auth": _auth("a:b")}})

    assert secret.hosts == ("docker.io",)
    assert SecretCredential("a", "b") == secret.lookup("docker.io", "library/alpine")


def test_hosts_are_listed_once_in_their_order() -> None:
    """A host with several paths is listed once; hosts are in the order of the pull secret."""
    secret = _secret({"b.io/x": {}, "a.io": {}, "b.io": {}, "*.c.io": {}})

    assert secret.hosts == ("b.io", "a.io")
    assert secret.globs == ("*.c.io",)


def test_a_host_takes_precedence_over_a_glob() -> None:
    """A host in a pull secret takes precedence over a glob, even without a login."""
    secret = _secret({"*.io": {"auth": _auth("a:b")}, "quay.io": {}})

    assert secret.lookup("quay.io", "x") is None
    assert SecretCredential("a", "b") == secret.lookup("ghcr.io", "x")


def test_an_ignored_host_is_no_upstream() -> None:
    """A host in `pullsecret.ignore` is no upstream, even if a glob or a path matches it.

    The host's entry is not validated.
    """
    secret = _secret(
        {"cloud.example": {"auth": "%"}, "cloud.example/x": 5, "*.example": {}},
        "Cloud.example",
        "*.other",
    )

    assert secret.hosts == ()
    assert not secret.names("cloud.example")
    assert secret.names("quay.example")


def test_hosts_without_an_entry_are_no_upstreams() -> None:
    """A host without an entry is no upstream: clients cannot make the appliance connect to it."""
    secret = _secret({"quay.io": {"auth": _auth("a:b")}})

    assert not secret.names("quay.io.evil.example")
    assert secret.lookup("ghcr.io", "a/b") is None


def test_the_older_format_consists_of_auths_alone() -> None:
    """The older format `.dockercfg` consists of the entries alone."""
    secret = parse(json.dumps({"quay.io": {"auth": _auth("a:b")}}).encode())

    assert SecretCredential("a", "b") == secret.lookup("quay.io", "x")


@pytest.mark.parametrize("text", ["{}", '{"auths": {}}', '{"credsStore": "desktop"}'])
def test_a_secret_may_have_no_entries(text: str) -> None:
    """A pull secret may have no entries, and then declares no upstream."""
    assert parse(text.encode()).hosts == ()


def test_a_credential_helper_is_a_warning() -> None:
    """A credential helper causes a warning, because the appliance does not run such a program."""
    secret = parse(b'{"auths": {}, "credsStore": "desktop", "credHelpers": {"gcr.io": "gcloud"}}')

    why = "the key has no effect: credential helpers are not run; put the credentials into auths"
    expected = [f"pull secret: credHelpers: {why}", f"pull secret: credsStore: {why}"]
    assert expected == [str(each) for each in secret.warnings]


def test_a_registry_token_is_read() -> None:
    """A `registrytoken`, which Docker's clients send as a bearer token, is read.

    The token is never shown.
    """
    secret = _secret({"quay.io": {"registrytoken": "abc"}})
    found = secret.lookup("quay.io", "a/b")

    assert found is not None
    assert found.registry_token == "abc"
    assert secret.warnings == ()
    assert "abc" not in repr(found)


def test_two_entries_of_one_name_are_a_warning() -> None:
    """Two entries of one name in a pull secret cause a warning; the one with a login is used."""
    secret = _secret({"docker.io": {}, "https://index.docker.io/v1/": {"auth": _auth("a:b")}})

    assert SecretCredential("a", "b") == secret.lookup("docker.io", "x")
    assert "docker.io has two entries" in str(secret.warnings[0])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "empty"),
        ("{", "not JSON: expecting property name enclosed in double quotes in line 1, column 2"),
        ('{"auths":\n  }', "not JSON: expecting value in line 2, column 3"),
        ("[]", "not a JSON object"),
        ('"x"', "not a JSON object"),
        ('{"auths": []}', "auths is not a JSON object"),
        ("[" * 100_000, "not JSON"),
        (
            '{"kind": "Secret", "data": {}}',
            "the file is a Kubernetes manifest, not the content of the secret",
        ),
    ],
    ids=range(8),
)
def test_an_invalid_secret_is_a_problem_of_one_line(text: str, expected: str) -> None:
    """An invalid pull secret causes a problem of one line, with row and column if known."""
    with pytest.raises(ConfigError) as caught:
        parse(text.encode(), source="/pull-secret.json")

    (problem,) = caught.value.problems
    assert ("/pull-secret.json", expected) == (problem.source, problem.message)
    assert problem.remedy


def test_a_binary_secret_is_a_problem_of_one_line() -> None:
    """A pull secret that is binary, as after encryption, causes a problem of one line."""
    with pytest.raises(ConfigError, match="pull secret: not JSON"):
        parse(b'{"auths": "\xff\xfe"}')


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"auth": "not base64!"}, "auth is not base64 of UTF-8"),
        ({"auth": "YTpi="}, "auth is not base64 of UTF-8"),
        ({"auth": base64.b64encode(b"\xff:\xff").decode()}, "auth is not base64 of UTF-8"),
        ({"auth": _auth("nocolon")}, "auth is not user:password"),
        ({"auth": _auth(":password")}, "auth is not user:password"),
        ({"auth": 5}, "auth is not a text"),
        ({"username": "a"}, "the entry has no password"),
        ({"password": "a"}, "the entry has no username"),
        ("text", "not a JSON object"),
        (None, "not a JSON object"),
    ],
    ids=range(10),
)
def test_the_problem_of_an_invalid_entry_has_its_key(entry: object, expected: str) -> None:
    """The problem of an invalid entry has the entry's key, and no part of its credential."""
    (line,) = _problems({"quay.io/org": entry})

    assert line.startswith(f'pull secret: entry "quay.io/org": {expected}; ')


@pytest.mark.parametrize(
    "key", ["https://me:s3cret@quay.io", "me:s3cret@quay.io/org", "x://me:s3/c@ret@quay.io"]
)
def test_a_password_in_a_key_is_masked(key: str) -> None:
    """A password in a key of the pull secret is masked.

    Some operators write a URL with a login as the key of a pull secret.
    """
    (line,) = _problems({key: {}})

    assert "***@quay.io" in line
    assert "s3" not in line


def test_a_key_that_is_no_host_is_a_problem() -> None:
    """A key that is no host is a problem, because a misspelt key declares no upstream."""
    (line,) = _problems({"quay io": {}})

    assert line.startswith('pull secret: entry "quay io": not a registry\'s host; ')


def test_every_invalid_entry_is_a_problem() -> None:
    """Every invalid entry of a pull secret is a problem, not only the first."""
    assert len(_problems({"a.io": {"auth": "%"}, "b.io": {}, "c.io": {"auth": "%"}})) == 2


def test_representations_hide_credentials() -> None:
    """The repr of a credential and of a pull secret hides passwords."""
    entry = {"auth": _auth("robot:hunter2"), "identitytoken": "hunter3"}
    secret = _secret({"quay.io": entry})

    assert "hunter" not in repr(secret)
    assert "hunter" not in repr(secret.lookup("quay.io", "x"))


def test_secrets_that_differ_in_layout_only_are_equal() -> None:
    """Pull secrets that differ in white space only are equal, so no change is seen."""
    auths = {"quay.io": {"auth": _auth("a:b")}}
    compact = parse(json.dumps({"auths": auths}).encode())

    assert compact == parse(json.dumps({"auths": auths}, indent=4).encode())


@pytest.mark.parametrize("end", ["\n", "\r\n", "\0\0", "\n\n"])
def test_a_line_end_is_no_part_of_a_password(end: str) -> None:
    """A line end in `auth` is no part of the password: `echo user:password | base64` adds it.

    RFC 7617, 2 forbids control characters in a password.
    """
    auth = base64.b64encode(f"joe:pass word{end}".encode()).decode()
    secret = parse(json.dumps({"auths": {"reg.example": {"auth": auth}}}).encode())

    found = secret.lookup("reg.example", "app")

    assert found is not None
    assert (found.username, found.password) == ("joe", "pass word")
