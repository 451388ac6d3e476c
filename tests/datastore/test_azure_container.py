"""Tests how the keys of `storage.azure` affect the requests to Azure and the login."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from entrepot.datastore.drivers.azure import bucket_of, default_credentials, signer_of
from entrepot.datastore.drivers.objects.check import tried_requests
from entrepot.datastore.drivers.objects.client import ObjectClient
from entrepot.datastore.errors import StorageBroken
from tests.azure_storage import parameters
from tests.serving import EndsAtOnce


class _Service(EndsAtOnce, ThreadingHTTPServer):
    """A server that replaces Azure: it records all requests.

    It sends the response `token` to requests for a token, and `answer` to all other requests.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[tuple[str, str, str]] = []
        self.answer: tuple[int, bytes] = (404, b"")
        self.token: tuple[int, bytes] = (
            *(200, b'{"access_token": "t0k", "expires_in": 3600, "expires_on": "9999999999"}'),
        )

    @property
    def url(self) -> str:
        """Return the URL of the server."""
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        assert isinstance(self.server, _Service)
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        authorization = self.headers.get("Authorization", "")
        shown = authorization.rpartition(":")[0] or authorization
        self.server.seen.append((self.command, self.path, shown))
        status, body = self.server.answer
        if "token" in self.path:
            status, body = self.server.token
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_POST = _answer  # noqa: N815 - names of the base class

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def service() -> Iterator[_Service]:
    """Run a server in place of Azure."""
    with _Service() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _config(**others: object) -> Mapping[str, Any]:
    return bucket_of(dict(parameters("https://blobs.test", Path(), **others))).config


_CLIENT = {"type": "client_secret", "clientid": "c", "tenantid": "t", "secret": "s"}


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"accountname": "images"}, {"account_name": "images"}),
        ({"serviceurl": None}, {"endpoint": "https://devstoreaccount1.blob.core.windows.net"}),
        (
            {"serviceurl": None, "realm": "core.chinacloudapi.cn"},
            {
                "endpoint": "https://devstoreaccount1.blob.core.chinacloudapi.cn",
                "authority_host": "https://login.chinacloudapi.cn",
            },
        ),
        (
            {"realm": "core.usgovcloudapi.net"},
            {"authority_host": "https://login.microsoftonline.us"},
        ),
        (
            {"accountkey": "c2VzYW1l"},
            {"account_key": "c2VzYW1l", "credential_type": "access_key"},
        ),
        (
            {"credentials": _CLIENT},
            {
                "credential_type": "client_secret",
                "client_id": "c",
                "tenant_id": "t",
                "client_secret": "s",
            },
        ),
        (
            {"credentials": {**_CLIENT, "type": "default_credentials"}},
            {"credential_type": "managed_identity"},
        ),
    ],
)
def test_each_key_selects_host_and_login(
    monkeypatch: pytest.MonkeyPatch, keys: dict[str, object], expected: dict[str, object]
) -> None:
    """The keys of `storage.azure` determine the host and the login of the requests.

    In this test, Azure's environment variables select no login.
    """
    for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_AUTHORITY_HOST"):
        monkeypatch.delenv(name, raising=False)
    config = _config(**keys)

    assert expected.items() <= config.items()
    if expected.get("credential_type", "access_key") != "access_key":
        assert "account_key" not in config


_APPLICATION = {"AZURE_CLIENT_ID": "c", "AZURE_TENANT_ID": "t"}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "managed_identity"),
        ({"AZURE_CLIENT_ID": "c"}, "managed_identity"),
        ({**_APPLICATION, "AZURE_CLIENT_SECRET": "s"}, "client_secret"),
        ({**_APPLICATION, "AZURE_FEDERATED_TOKEN_FILE": "/token"}, "workload_identity"),
        (
            {**_APPLICATION, "AZURE_CLIENT_SECRET": "s", "AZURE_FEDERATED_TOKEN_FILE": "/token"},
            "client_secret",
        ),
    ],
)
def test_the_default_credentials_are_those_of_azures_libraries(
    environ: dict[str, str], expected: str
) -> None:
    """With `default_credentials`, Azure's variables select the login as in Azure's SDKs."""
    assert default_credentials(environ) == expected


@pytest.mark.parametrize(
    ("root", "path"),
    [("", "/registry/key"), ("/", "/registry/key"), ("/a/b/", "/registry/a/b/key")],
)
def test_the_name_of_a_blob_is_that_of_docker_distribution_3(
    service: _Service, monkeypatch: pytest.MonkeyPatch, root: str, path: str
) -> None:
    """A value has the same blob name in the container as with docker distribution 3.

    The request is signed with the key of the account, even if Azure's variables select another
    login or another container.
    """
    monkeypatch.setenv("AZURE_STORAGE_TOKEN", "of another program")
    monkeypatch.setenv("AZURE_CONTAINER_NAME", "other")
    monkeypatch.setenv("AZURE_STORAGE_USE_EMULATOR", "true")
    keys = parameters(service.url, Path(), container="registry", rootdirectory=root)

    assert ObjectClient(bucket_of(dict(keys))).head("key") is None
    assert service.seen == [("HEAD", path, "SharedKey devstoreaccount1")]


def test_tls_is_verified_with_the_authorities_of_the_operator(tmp_path: Path) -> None:
    """The key `ca` adds trusted certificate authorities; `skipverify` accepts any certificate."""
    authority = tmp_path / "ca.pem"
    authority.write_text("the PEM")

    def client(**others: object) -> Mapping[str, Any]:
        return bucket_of(dict(parameters("https://blobs.test", Path(), **others))).client

    assert client(ca=authority)["root_certificate"] == "the PEM"
    assert client(skipverify=True)["allow_invalid_certificates"] is True
    assert {"root_certificate", "allow_invalid_certificates"}.isdisjoint(client())
    with pytest.raises(StorageBroken, match="cannot be read"):
        client(ca=tmp_path / "absent")


def test_a_url_is_signed_for_one_blob_and_has_no_start() -> None:
    """A signed URL is valid for one blob, and has no start time.

    If Azure's clock were slow, a start time could be in the future, and Azure would refuse the URL.
    """
    keys = dict(parameters("https://blobs.test/", Path(), rootdirectory="/a/"))
    url = urlsplit(signer_of(keys, None, lambda: 0.0)("b c/data", 600))
    query = parse_qs(url.query)

    assert (url.scheme, url.netloc, url.path) == ("https", "blobs.test", "/images/a/b%20c/data")
    assert {name: value[0] for name, value in query.items() if name != "sig"} == {
        "sp": "r",
        "se": "1970-01-01T00:10:00Z",
        "spr": "https",
        "sv": "2021-08-06",
        "sr": "b",
    }


@pytest.mark.parametrize(
    ("parts", "is_other"),
    [
        ((None, "key", 600), False),
        (("http://cdn.test", "key", 600), True),
        ((None, "other", 600), True),
        ((None, "key", 601), True),
    ],
)
def test_a_signature_covers_blob_time_and_scheme(
    parts: tuple[str | None, str, int], *, is_other: bool
) -> None:
    """The signature of a URL is not valid for another blob, for a longer time, or without TLS."""
    keys = dict(parameters("https://blobs.test", Path()))

    def signature(endpoint: str | None, key: str, seconds: int) -> str:
        return signer_of(keys, endpoint, lambda: 0.0)(key, seconds).partition("sig=")[2]

    assert (signature(*parts) != signature(None, "key", 600)) is is_other


_DEFAULT = {**_CLIENT, "type": "default_credentials"}


@pytest.mark.parametrize(
    ("login", "environ", "asked"),
    [
        (_CLIENT, {}, "/t/oauth2/v2.0/token"),
        (_DEFAULT, {**_APPLICATION, "AZURE_CLIENT_SECRET": "s"}, "/t/oauth2/v2.0/token"),
        (
            _DEFAULT,
            {**_APPLICATION, "AZURE_FEDERATED_TOKEN_FILE": "{folder}/token"},
            "/t/oauth2/v2.0/token",
        ),
        (_DEFAULT, {"AZURE_MSI_ENDPOINT": "{url}/identity/token"}, "/identity/token"),
    ],
    ids=["client_secret", "application", "workload identity", "managed identity"],
)
def test_a_token_authorizes_the_requests(
    service: _Service,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    *,
    login: dict[str, object],
    environ: dict[str, str],
    asked: str,
) -> None:
    """If the login is not the account's key, the driver gets a token and sends it with requests.

    The kind of login determines the URL from which the driver gets the token.
    """
    (tmp_path / "token").write_text("of Kubernetes")
    for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_SECRET"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"AZURE_AUTHORITY_HOST": "{url}", **environ}.items():
        filled = value.replace("{url}", service.url).replace("{folder}", str(tmp_path))
        monkeypatch.setenv(name, filled)

    client = ObjectClient(bucket_of(dict(parameters(service.url, Path(), credentials=login))))

    assert client.head("key") is None
    (for_token, for_blob) = service.seen
    assert for_token[1].partition("?")[0] == asked
    assert for_blob == ("HEAD", "/images/key", "Bearer t0k")


def test_a_login_that_is_refused_is_one_line_with_a_remedy(
    service: _Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If Azure refuses the login with an OAuth error, the check reports one line with a remedy."""
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", service.url)
    service.token = 401, b'{"error": "invalid_client", "error_description": "AADSTS7000215"}'
    keys = parameters(service.url, Path(), credentials=_CLIENT)

    (found,) = tried_requests(ObjectClient(bucket_of(dict(keys))))

    assert "AADSTS7000215" in found.why
    assert found.remedy.startswith("correct storage.azure.credentials.clientid and secret")
    assert "\n" not in found.why


def test_a_token_of_kubernetes_that_cannot_be_read_is_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """If the token file of Kubernetes cannot be read, the appliance reports this when it starts.

    Without this check, each request of the library obstore would fail, as if Azure did not respond.
    """
    for name, value in _APPLICATION.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AZURE_CLIENT_SECRET", raising=False)
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(tmp_path / "absent"))

    with pytest.raises(StorageBroken, match="absent cannot be read"):
        _config(credentials=_DEFAULT)


def _error(code: str) -> bytes:
    return (
        f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>m\nn</Message></Error>'.encode()
    )


@pytest.mark.parametrize(
    ("status", "code", "remedy"),
    [
        (404, "ContainerNotFound", "create the container, or correct storage.azure.container"),
        (400, "InvalidResourceName", "correct storage.azure.container"),
        (
            403,
            "AuthenticationFailed",
            "correct storage.azure.accountkey, or set the clock of this machine",
        ),
        (
            403,
            "KeyBasedAuthenticationNotPermitted",
            "the account accepts no keys: set storage.azure.credentials",
        ),
        (
            403,
            "AuthorizationPermissionMismatch",
            "allow the role Storage Blob Data Contributor on the container (docs/storage.md,",
        ),
        (401, "NoAuthenticationInformation", "allow the role Storage Blob Data Contributor"),
    ],
)
def test_a_refused_request_is_one_line_with_a_remedy(
    service: _Service, status: int, code: str, remedy: str
) -> None:
    """If Azure refuses a request, the check reports one line with Azure's error code and a remedy.

    The line has no XML.
    """
    service.answer = status, _error(code)

    client = ObjectClient(bucket_of(dict(parameters(service.url, Path()))))
    (found,) = (each for each in tried_requests(client) if each.why)

    assert found.why.startswith("list: ")
    assert found.why.endswith(f": {code}")
    assert found.remedy.startswith(remedy)
    assert "\n" not in found.why
