"""Tests tokens (`auth.token`) with real clients and a strict token server."""

from __future__ import annotations

import base64
import json
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from entrepot.datastore.refs import Digest
from tests.system.appliance import Appliance, Setup
from tests.system.clients import Clients
from tests.system.conftest import Start
from tests.system.containerd import Containerd
from tests.system.datadir import access_lines
from tests.system.dockerd import Dockerd
from tests.system.http_client import HttpClient, Response
from tests.system.images import KB, of_size
from tests.system.pulls import blob_path, manifest_path, pull
from tests.system.pushes import as_folder, push, tags
from tests.system.registries import Registry, token_registry
from tests.system.test_memory import AT_ONCE, is_cached, warm
from tests.system.tokens import EVERYTHING, SERVICE, TokenServer
from tests.system.waiting import eventually
from tests.token_signer import signer

ALICE, BOB, WRONG = "alice:sesame", "bob:builder", "alice:guess"
NAME = "one.test/tokens/app"
FREE = "one.test/tokens/free"
IMAGE = of_size(16 * KB, 800, family="docker")
_PLAIN = ("--tls-verify=false",)


def _policy(user: str, kind: str, name: str) -> frozenset[str]:
    """Permit everything to alice, pulls to bob, and pulls of FREE to anonymous clients."""
    if user == "alice":
        return EVERYTHING
    if user == "bob":
        return frozenset({"pull"}) if kind == "repository" else frozenset()
    return frozenset({"pull"}) if name == FREE else frozenset()


@dataclass(frozen=True, slots=True)
class Site:
    """An appliance that requires tokens, and the token server."""

    appliance: Appliance
    server: TokenServer
    jwks: Path

    @property
    def netloc(self) -> str:
        """Return the host and port of the appliance."""
        return self.appliance.http.netloc

    def http(self, *scopes: str, **changed: Any) -> HttpClient:
        """Return a client of the appliance with a valid token for *scopes*."""
        claims = self.server.claims(*scopes, **changed)
        token = self.server.signer.sign(claims, self.server.signer.chain())
        return self.with_token(token)

    def with_token(self, token: str) -> HttpClient:
        """Return a client with *token*, which may be invalid."""
        return replace(self.appliance.http, bearer=token)


def _settings(server: TokenServer, folder: Path, **more: Any) -> dict[str, Any]:
    bundle, jwks = folder / "tokens.pem", folder / "keys.json"
    bundle.write_bytes(server.pair.pem())
    jwks.write_bytes(signer("RS256").jwks(kid="rsa"))
    token = {
        "realm": server.realm,
        "service": SERVICE,
        "issuer": server.claims()["iss"],
        "rootcertbundle": str(bundle),
        "jwks": str(jwks),
    }
    return {"auth": {"token": token}, "hosted": {"team/**": {}}, **more}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, public: Registry) -> Iterator[Site]:
    """Run an appliance whose token server has two users, and permits anonymous pulls of FREE."""
    folder = tmp_path_factory.mktemp("tokens")
    for name in ("app", "free"):
        public.push(f"tokens/{name}", "v1", IMAGE)
    with ExitStack() as stack:
        server = stack.enter_context(
            TokenServer(ALICE, BOB, policy=_policy, anonymous=True, lifetime=300)
        )
        setup = Setup(
            {"one.test": {"url": public.url, "default": True}},
            _settings(server, folder),
            {"REGISTRY_STORAGE_DELETE_ENABLED": "true"},
        )
        appliance = stack.enter_context(Appliance(folder / "it", setup))
        yield Site(appliance, server, folder / "keys.json")


@pytest.fixture
def home() -> Iterator[Path]:
    """Create a folder with a short path, because the length of a socket's path is limited."""
    folder = Path(tempfile.mkdtemp(prefix="to-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


# ---- real clients


def test_podman_and_skopeo_log_in_pull_and_push(
    site: Site, clients: Clients, tmp_path: Path
) -> None:
    """Podman and skopeo log in, pull and push with the rights of the user.

    An anonymous client pulls the repositories that the token server permits.
    """
    assert clients.pull(f"{site.netloc}/{FREE}:v1")
    assert clients.pull_fails(f"{site.netloc}/{NAME}:v1")
    assert clients.login(site.netloc, WRONG).returncode != 0

    assert clients.login(site.netloc, BOB).returncode == 0
    own = clients.pull(f"{site.netloc}/{NAME}:v1")
    assert clients.podman("push", *_PLAIN, own, f"{site.netloc}/team/podman:v1").returncode != 0
    assert clients.login(site.netloc, ALICE).returncode == 0
    pushed = clients.podman("push", *_PLAIN, own, f"{site.netloc}/team/podman:v1")
    assert pushed.returncode == 0, pushed.stderr

    source, target = as_folder(IMAGE, tmp_path / "own"), f"docker://{site.netloc}/team/skopeo:v1"
    plain = ("--dest-tls-verify=false",)
    assert clients.skopeo("copy", *plain, f"--dest-creds={BOB}", source, target).returncode != 0
    assert clients.skopeo("copy", *plain, f"--dest-creds={ALICE}", source, target).returncode == 0
    copied = clients.copy(f"{site.netloc}/team/skopeo:v1", tmp_path / "back", f"--src-creds={BOB}")
    assert copied.returncode == 0, copied.stderr
    assert "alice" in {user for user, _ in site.server.granted}


def test_the_doctor_pulls_with_tokens_and_verifies_one(site: Site) -> None:
    """`entrepot doctor` checks keys, realm and a token, and pulls in each form of the name."""
    image = f"{NAME}:v1"
    done = site.appliance.entrepot("doctor", "--user", BOB, "--image", image, "--json")
    found = {each["what"]: each["verdict"] for each in json.loads(done.stdout)["findings"]}
    wrong = site.appliance.entrepot("doctor", "--user", "bob:guess", "--image", image)

    assert found["token keys"] == found["token"] == found["prefix"] == "works", done.stdout
    assert done.returncode == 0, done.stdout
    assert (wrong.returncode, "issues no token: 401" in wrong.stdout) == (1, True)


def test_dockerd_logs_in_pulls_and_pushes(site: Site, home: Path) -> None:
    """Dockerd gets a token from the realm, with a login or without, and pulls and pushes."""
    port = site.appliance.http.port
    (home / "tree" / "etc" / "docker").mkdir(parents=True)
    with Dockerd(home, ways={port: port, site.server.port: site.server.port}) as dockerd:
        dockerd.configure(home / "tree")
        assert not dockerd.login(site.netloc, WRONG)
        assert dockerd.pull(f"{site.netloc}/{FREE}:v1") == {str(Digest.of(IMAGE.config))}

        assert dockerd.login(site.netloc, ALICE)
        dockerd.push(f"{site.netloc}/{FREE}:v1", f"{site.netloc}/team/docker", "v1", ALICE)
        dockerd.forget()
        assert dockerd.pull(f"{site.netloc}/team/docker:v1", BOB)

    assert tags(site.http("repository:team/docker:pull"), "team/docker") == ["v1"]


def test_containerd_pulls_and_pushes(site: Site, home: Path) -> None:
    """Containerd pulls and pushes with a token, for which it posts its password to the realm."""
    with Containerd(home / "containerd") as containerd:
        image = f"{site.netloc}/{FREE}:v1"
        assert containerd.pull(image)

        assert not containerd.push(image, f"{site.netloc}/team/containerd:v1")
        assert not containerd.push(image, f"{site.netloc}/team/containerd:v1", BOB)
        assert containerd.push(image, f"{site.netloc}/team/containerd:v1", ALICE)

    assert tags(site.http("repository:team/containerd:pull"), "team/containerd") == ["v1"]


def test_containerd_uses_the_appliance_as_a_mirror(site: Site, home: Path) -> None:
    """As a mirror the appliance gets `?ns=`, and the scope in its challenge names the upstream."""
    hosts = home / "tree" / "etc" / "containerd" / "certs.d" / "one.test"
    hosts.mkdir(parents=True)
    (hosts / "hosts.toml").write_text(
        f'[host."http://{site.netloc}"]\ncapabilities = ["pull", "resolve"]\n'
    )
    with Containerd(home / "containerd") as containerd:
        containerd.configure(home / "tree")

        assert containerd.pull("one.test/tokens/free:v1")

    assert ("", (f"repository:{FREE}:pull",)) in site.server.granted


# ---- tokens that are refused

SCOPE = f"repository:{NAME}:pull"


def _forged(site: Site, algorithm: str, header: dict[str, Any]) -> str:
    """Return a token that names *algorithm* in its header, and whose signature is empty."""
    parts = (
        json.dumps({"alg": algorithm, **header}).encode(),
        json.dumps(site.server.claims(SCOPE)).encode(),
    )
    text = ".".join(base64.urlsafe_b64encode(each).rstrip(b"=").decode() for each in parts)
    return f"{text}."


def _refused(site: Site) -> dict[str, str]:
    """Return tokens that must be refused, by the reason."""
    server, other = site.server, signer("ES256", "foreign")
    good = server.signer
    now = int(time.time())

    def signed(**changed: Any) -> str:
        return good.sign(server.claims(SCOPE, **changed), good.chain())

    return {
        "expired": signed(exp=now - 61),
        "without exp": signed(exp=None),
        "not valid yet": signed(nbf=now + 120),
        "another issuer": signed(iss="someone"),
        "another audience": signed(aud=["elsewhere"]),
        "an unknown key by chain": other.sign(server.claims(SCOPE), other.chain()),
        "an unknown key by kid": other.sign(server.claims(SCOPE), other.by_id()),
        "an unknown key by jwk": other.sign(server.claims(SCOPE), {"jwk": other.jwk()}),
        "another key under a known name": other.sign(server.claims(SCOPE), good.by_id()),
        "algorithm none": _forged(site, "none", good.by_id()),
        "key confusion": _forged(site, "HS256", {"kid": "rsa"}),
        "a hundred scopes": good.sign(
            server.claims(*(f"repository:team/app{n}:pull" for n in range(100)))
        ),
    }


def test_a_token_that_is_not_valid_is_refused_everywhere(site: Site) -> None:
    """An invalid token gets 401 with `invalid_token` for every kind of request.

    The test tries manifests, blobs, pushes, the catalog and `/v2/`. A token with a hundred scopes
    gets 431, because it is too long.
    """
    paths = {
        "/v2/": "",
        manifest_path(NAME, "v1"): f',scope="{SCOPE}"',
        blob_path(NAME, IMAGE.digest): f',scope="{SCOPE}"',
        "/v2/_catalog": ',scope="registry:catalog:*"',
    }
    for why, token in _refused(site).items():
        for path, scope in paths.items():
            answer = site.with_token(token).get(path)
            if why == "a hundred scopes":
                assert (answer.status, answer.code) == (431, "UNSUPPORTED")
                continue
            challenge = f'Bearer realm="{site.server.realm}",service="{SERVICE}"{scope}'
            assert (answer.status, answer.code) == (401, "UNAUTHORIZED"), (why, path)
            assert answer.headers["www-authenticate"] == f'{challenge},error="invalid_token"'
        assert site.with_token(token).request("POST", "/v2/team/x/blobs/uploads/").status in (
            401,
            431,
        )


def test_a_token_that_is_too_large_is_refused(site: Site) -> None:
    """HAProxy refuses a token of a megabyte, or one with a thousand scopes."""
    head = b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "
    scopes = site.http(*(f"repository:team/app{n}:pull" for n in range(1000))).bearer or ""

    for token in (b"x" * 2**20, scopes.encode()):
        answer = site.appliance.http.raw(head + token + b"\r\n\r\n")
        assert answer.split()[1] == b"400"

    assert site.http().get("/v2/").status == 200


def test_a_narrower_token_is_refused_with_the_needed_scope(site: Site) -> None:
    """A token without the needed scope is refused, and the challenge names this scope.

    A token that permits more than the needed scope is accepted.
    """
    narrow = site.http(f"repository:{FREE}:pull", "repository:team/own:pull")

    for method, path, scope in (
        ("GET", manifest_path(NAME, "v1"), SCOPE),
        ("PUT", manifest_path("team/own", "v1"), "repository:team/own:pull,push"),
        ("DELETE", manifest_path("team/own", IMAGE.digest), "repository:team/own:delete"),
        (
            "POST",
            f"/v2/team/own/blobs/uploads/?mount={IMAGE.digest}&from=team/base",
            "repository:team/own:pull,push repository:team/base:pull",
        ),
        ("GET", "/v2/_catalog", "registry:catalog:*"),
    ):
        answer = narrow.request(method, path, body=b"{}" if method == "PUT" else None)
        assert answer.status == 401
        assert answer.headers["www-authenticate"].endswith(
            f',scope="{scope}",error="insufficient_scope"'
        )
    everything = site.http("repository:team/own:*")
    assert push(everything, "team/own", "v1", IMAGE)
    deleted = everything.request("DELETE", manifest_path("team/own", IMAGE.digest))
    assert deleted.status == 202


# ---- tokens and HAProxy's cache


def test_tokens_share_the_cache_if_they_may_pull_the_same(site: Site) -> None:
    """Two users share a cached response of HAProxy if the token of each user permits the pull."""
    path = manifest_path(NAME, "v1")
    alice, bob = site.http(SCOPE, user="alice"), site.http(f"repository:{NAME}:*", user="bob")
    pull(alice, NAME, "v1")
    warm(alice, path)

    assert bob.get(path).status == 200
    warm(alice, path)
    assert is_cached(bob.get(path))
    other = site.http(f"repository:{FREE}:pull", user="alice")
    assert [other.get(path).status for _ in range(3)] == [401] * 3
    assert site.appliance.http.get(path).status == 401
    lines = [each for each in access_lines(site.appliance.state) if each.uri == path]
    assert {each.user for each in lines if "memory" in each.cache} == {"alice", "bob"}


def test_a_cached_answer_never_outlives_the_token(site: Site) -> None:
    """HAProxy's cache serves no client whose token has expired; for 60 s a worker still does."""
    path = manifest_path(NAME, "v1")
    pull(site.http(SCOPE), NAME, "v1")
    expires = int(time.time()) + 4
    short = site.http(SCOPE, exp=expires)
    warm(short, path)
    eventually(lambda: time.time() > expires - 0.2, what="the token is about to expire")

    late: list[Response] = []
    while not late or time.time() < expires + 0.3:
        sent = time.time()
        answer = short.get(path)
        if sent >= expires:
            late.append(answer)

    assert late
    assert [each.status for each in late] == [200] * len(late)
    assert not any(map(is_cached, late))
    assert site.http(SCOPE, exp=expires - 60).get(path).status == 401


# ---- the files of keys


def test_changed_keys_are_in_force_without_a_restart(site: Site) -> None:
    """Changed keys apply without a restart.

    A token of a removed key is refused, even if HAProxy remembers this token. A token of a new key
    is accepted.
    """
    path, claims = manifest_path(NAME, "v1"), site.server.claims(SCOPE)
    old = site.with_token(signer("RS256").sign(claims, {"kid": "rsa"}))
    new = site.with_token(signer("EdDSA").sign(claims, {"kid": "ed"}))
    assert old.get(path).status == 200
    warm(old, path)
    assert new.get(path).status == 401

    site.jwks.write_bytes(signer("EdDSA").jwks(kid="ed"))
    eventually(lambda: old.get(path).status == 401, what="old tokens are refused", within=AT_ONCE)
    eventually(lambda: new.get(path).status == 200, what="new tokens are valid", within=AT_ONCE)
    site.jwks.write_text("{}")
    eventually(
        lambda: "watched file is unusable" in site.appliance.output(), what="a warning is logged"
    )
    assert new.get(path).status == 200


def test_access_rules_limit_tokens_by_their_user(start: Start, tmp_path: Path) -> None:
    """Both the token and the access rules must permit a request.

    The test sends each request twice, because HAProxy remembers tokens.
    """
    rules = [
        {"user": "alice", "repository": "team/**", "allow": ["pull", "push"]},
        {"user": "anonymous", "repository": "team/free", "allow": ["pull"]},
    ]
    with TokenServer(ALICE) as server:
        setup = Setup(settings=_settings(server, tmp_path, access=rules))
        site = Site(start(setup), server, tmp_path / "keys.json")
        scopes = ("repository:team/app:*", "repository:team/free:*", "repository:other:*")
        alice, bob = site.http(*scopes, user="alice"), site.http(*scopes, user="bob")
        assert push(alice, "team/app", "v1", IMAGE)
        assert push(alice, "team/free", "v1", IMAGE)

        for client, name, status in (
            (alice, "team/app", 200),
            (alice, "other", 403),
            (bob, "team/app", 403),
            (bob, "team/free", 200),
            (site.http(*scopes, sub=None), "team/free", 200),
            (site.http(*scopes, sub=None), "team/app", 403),
        ):
            for _ in range(2):
                assert client.get(manifest_path(name, "v1")).status == status
        assert bob.request("POST", "/v2/team/free/blobs/uploads/").status == 403


# ---- the same token server with docker-registry


def test_the_challenges_are_those_of_docker_registry(site: Site, tmp_path: Path) -> None:
    """The appliance's challenges have the status, scope and error of docker-registry's challenges.

    The test ignores the order of the actions in a scope, which is random in docker-registry.
    """
    digest = IMAGE.digest
    probes = [
        ("GET", "/v2/"),
        ("GET", "/v2/_catalog"),
        ("GET", "/v2/team/probe/manifests/v1"),
        ("HEAD", "/v2/team/probe/manifests/v1"),
        ("PUT", "/v2/team/probe/manifests/v1"),
        ("DELETE", f"/v2/team/probe/manifests/{digest}"),
        ("GET", f"/v2/team/probe/blobs/{digest}"),
        ("DELETE", f"/v2/team/probe/blobs/{digest}"),
        ("GET", "/v2/team/probe/tags/list"),
        ("POST", "/v2/team/probe/blobs/uploads/"),
        ("POST", f"/v2/team/probe/blobs/uploads/?mount={digest}&from=team/base"),
    ]
    tokens = {
        "none": None,
        "refused": "a.b.c",
        "expired": site.http(exp=1).bearer,
        "narrow": site.http("repository:team/other:*").bearer,
        "no actions": site.http().bearer,
    }
    with token_registry(tmp_path, site.server) as theirs:
        for name, token in tokens.items():
            for method, path in probes:
                body = b"{}" if method == "PUT" else None
                ours, other = (
                    _challenge(replace(http, bearer=token).request(method, path, body=body))
                    for http in (site.appliance.http, theirs.http)
                )
                assert ours == other, (name, method, path)


def _challenge(answer: Response) -> tuple[int, dict[str, object]]:
    """Return the status and the parameters of a challenge, with sorted actions."""
    header = answer.headers.get("www-authenticate", "")
    found: dict[str, object] = dict(re.findall(r'(\w+)="([^"]*)"', header))
    if "scope" in found:
        scopes = (each.rpartition(":") for each in str(found["scope"]).split(" "))
        found["scope"] = {name: sorted(actions.split(",")) for name, _, actions in scopes}
    return answer.status, found
