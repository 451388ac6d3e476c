"""A client connects to an upstream with TLS, through proxies, and after a fork."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest

from entrepot.datastore.refs import Tag
from entrepot.registry.errors import Unavailable, Why
from entrepot.registry.upstream.upstreams import Shared
from entrepot.runtime.proxies import Proxies
from tests.certificates import Authority
from tests.registry.upstream.clients import client_of
from tests.upstream import FakeUpstream
from tests.wire import HONEST, Fault, HttpServer, Reply, Seen

V1 = Tag("v1")


def _why(upstream: FakeUpstream, **settings: Any) -> Why:
    with pytest.raises(Unavailable) as raised:
        client_of(upstream, **settings).head("app", V1)
    return raised.value.why


def test_a_private_authority_is_trusted_if_configured(tmp_path: Path) -> None:
    """If the operator configures a private authority, the client accepts its certificates.

    With `insecure` any certificate is accepted.
    """
    authority = Authority(tmp_path)
    with FakeUpstream(tls=authority.context()) as upstream:
        upstream.add_image("app", "v1", [b"layer"])

        assert client_of(upstream, ca=authority.path).head("app", V1).size
        assert client_of(upstream, insecure=True).head("app", V1).size
        assert _why(upstream) is Why.REFUSED


def test_a_certificate_for_another_host_is_rejected(tmp_path: Path) -> None:
    """A certificate for another host is rejected, even if its authority is trusted."""
    authority = Authority(tmp_path)
    with FakeUpstream(tls=authority.context("other.example")) as upstream:
        assert _why(upstream, ca=authority.path) is Why.REFUSED


def test_a_missing_authority_file_makes_only_that_upstream_unavailable(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    """If the file of an upstream's certificate authorities is missing, only that upstream fails."""
    assert _why(upstream, ca=tmp_path / "gone.pem", url="https://127.0.0.1:1") is Why.REFUSED


def test_plain_http_on_a_tls_port_and_the_reverse_fail(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    """Plain HTTP to a TLS port fails, as does TLS to a plain HTTP port."""
    with FakeUpstream(tls=Authority(tmp_path).context()) as secure:
        assert _why(secure, url=f"http://{secure.host}") in {Why.REFUSED, Why.NONSENSE}
    assert _why(upstream, url=f"https://{upstream.host}") is Why.REFUSED


def test_a_hanging_tls_handshake_is_a_connection_timeout() -> None:
    """If a TLS handshake hangs, the request fails after the connect timeout.

    The circuit breaker opens at once.
    """
    with socket.create_server(("127.0.0.1", 0)) as hanging, FakeUpstream() as upstream:
        url = f"https://127.0.0.1:{hanging.getsockname()[1]}"
        client = client_of(upstream, url=url, connect_timeout=0.1, read_timeout=60.0)
        why = []
        for _ in range(2):
            with pytest.raises(Unavailable) as raised:
                client.head("app", V1)
            why.append(raised.value.why)

    assert why == [Why.TIMEOUT, Why.RESTING]


def test_a_response_that_is_not_http_is_nonsense() -> None:
    """If another service listens on the port and its response is not HTTP, the request fails."""
    with socket.create_server(("127.0.0.1", 0)) as listener, FakeUpstream() as upstream:

        def greet() -> None:
            for _ in ("HEAD", "GET"):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(b"220 mail.example ESMTP\r\n\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"

        assert _why(upstream, url=url) is Why.NONSENSE
        thread.join()


def test_a_proxy_is_used_except_for_loopback(upstream: FakeUpstream) -> None:
    """The client sends a proxy the absolute URL and the proxy's own credentials.

    Requests to a loopback address use no proxy.
    """
    upstream.add_image("app", "v1", [b"layer"])
    proxied: list[Seen] = []

    def answer(seen: Seen) -> tuple[Reply, Fault]:
        proxied.append(seen)
        return Reply(200, {"Content-Type": "", "X-Via": "proxy"}), HONEST

    proxy = HttpServer(answer)
    proxy.start()
    login = proxy.url.replace("://", "://us%40er:pass@")
    shared = Shared(proxies=Proxies({"http": login}, exempt=("direct.example",)))
    try:
        client_of(upstream, shared, url="http://reg.example:5000").head("app", V1)
        client_of(upstream, shared).head("app", V1)
    finally:
        proxy.stop()

    assert [each.path for each in proxied] == ["/v2/app/manifests/v1"]
    assert proxied[0].headers["host"] == "reg.example:5000"
    assert proxied[0].headers["proxy-authorization"] == "Basic dXNAZXI6cGFzcw=="
    assert upstream.count() == 1


def test_a_stopped_proxy_is_named_in_the_message(upstream: FakeUpstream) -> None:
    """If the configured proxy is down, the request fails, and the error names the proxy."""
    shared = Shared(proxies=Proxies({"https": "http://127.0.0.1:1"}))

    with pytest.raises(Unavailable) as raised:
        client_of(upstream, shared, url="https://reg.example").head("app", V1)

    assert raised.value.why is Why.REFUSED
    assert "proxy" in str(raised.value)


def test_a_forked_process_opens_its_own_connections(
    upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a fork, the new process opens its own connections to an upstream.

    Two processes on one connection would read each other's responses.
    """
    upstream.add_image("app", "v1", [b"layer"])
    client = client_of(upstream)
    client.head("app", V1)
    monkeypatch.setattr(os, "getpid", lambda: -1)

    client.head("app", V1)
    client.head("app", V1)

    assert upstream.connections == 2


def test_an_authority_without_key_usage_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An authority without the extension keyUsage is trusted.

    Python 3.13 rejects such an authority by default, so the client disables this check.
    """
    default = ssl.create_default_context

    def strict() -> ssl.SSLContext:
        context = default()
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", strict)
    authority = Authority(tmp_path, with_key_usage=False)
    with FakeUpstream(tls=authority.context()) as upstream:
        image = upstream.add_image("app", "v1", [b"layer"])

        found = client_of(upstream, ca=authority.path).head("app", Tag("v1"))

    assert image.digest == found.digest
