"""Measure requests with tokens: first one token for all requests, then a new token for each.

HAProxy forwards a request with a new token to a worker, which verifies the token. The cost of such
a request is compared with that of a request whose token expired a moment ago. A worker accepts an
expired token for 60 s more, but neither HAProxy nor the worker remembers it. So each request with
an expired token costs exactly one verification and one response of a worker.
"""

from __future__ import annotations

import datetime as dt
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Final

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from bench import kinds, load, rows, stages
from bench.address import ServerAddress
from bench.content import Image
from bench.figures import Sample
from bench.kinds import OURS, Plan
from bench.measure import Book, attempt, measure, turn
from bench.server import Server
from bench.site import Site
from bench.targets import VERIFYING
from entrepot.runtime.token_keys import key_ids

ALGORITHMS: Final = ("RS256", "ES256")

# The number of new tokens for each round, which is more than a worker can verify in a round
_MANY = 8000
_SECONDS = 2
_LIFETIME_S = 3600


@dataclass(frozen=True, slots=True)
class Signer:
    """A token server's key and certificate; the key signs tokens for one repository."""

    algorithm: str
    repository: str
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def bundle(self) -> bytes:
        """Return the key's certificate in PEM."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.algorithm)])
        now = time.time()
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_date(now - 86_400))
            .not_valid_after(_date(now + 86_400))
            .sign(self.key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM)

    def token(self, lifetime: int = _LIFETIME_S) -> str:
        """Return a new token, valid for *lifetime* seconds, that differs from all others."""
        now = int(time.time())
        claims = {
            "iss": kinds.ISSUER,
            "sub": "bench",
            "aud": kinds.SERVICE,
            "exp": now + lifetime,
            "nbf": now - 60,
            "iat": now,
            "jti": f"{next(self._numbers):020}",
            "access": [{"type": "repository", "name": self.repository, "actions": ["pull"]}],
        }
        # docker-registry 2.x finds a key only if `kid` is the key's libtrust ID.
        header = {"kid": key_ids(self.key.public_key())[-1]}
        return jwt.encode(claims, self.key, algorithm=self.algorithm, headers=header)


def tokens(site: Site, book: Book, rounds: int) -> None:
    """Measure the rows with tokens, and the row with a password for the comparison."""
    stages.tag_with_password(site, book, rounds)
    for algorithm in ALGORITHMS:
        _measured(site, book, algorithm, rounds)


def _measured(site: Site, book: Book, algorithm: str, rounds: int) -> None:
    seen, new = f"token-{algorithm.lower()}", f"token-new-{algorithm.lower()}"
    with ExitStack() as stack:
        signers: dict[str, Signer] = {}
        servers: dict[str, Server] = {}
        for kind in (each for each in site.kinds if each.is_cache and each.takes_tokens):
            signers[kind.name] = signer = _signer(algorithm, _repository(kind.name, site.app))
            launch = kind.launch(_plan(site, signer))
            servers[kind.name] = stack.enter_context(Server(launch))
        known = {name: _with_token(each, signers[name].token()) for name, each in servers.items()}
        for name, address in known.items():
            stages.fill(address, site.app)
            book.report_progress(f"{algorithm}: {name} is filled")
        for number in range(rounds):
            for name in turn(list(servers), number):
                server = servers[name]
                act = partial(measure, server, _seen(site.app, known[name]), site.log)
                attempt(seen, name, book, act)
                fresh = _file(site, signers[name])
                act = partial(measure, server, _with_file(site.app, fresh), site.log)
                if name == OURS:
                    reference = partial(_verifying_worker, site, server, signers[OURS])
                    attempt(new, name, book, partial(_compared, act, reference))
                else:
                    attempt(new, name, book, act)


def _compared(act: Callable[[], Sample], reference: Callable[[], float]) -> Sample:
    """Return the sample of *act*, with its cost divided by the cost that *reference* returns."""
    sample, cost = act(), reference()
    return replace(
        sample, more={"us a verifying worker": cost, VERIFYING: stages.microseconds(sample) / cost}
    )


def _verifying_worker(site: Site, server: Server, signer: Signer) -> float:
    """Return the cost of a request for which a worker verifies a token (us)."""
    file = site.folder / "expired.txt"
    file.write_text(f"{signer.token(lifetime=-1)}\n" * _MANY)
    return stages.microseconds(measure(server, _with_file(site.app, file), site.log))


def _plan(site: Site, signer: Signer) -> Plan:
    plan = site.plain()
    bundle = plan.folder / "tokens.pem"
    bundle.write_bytes(signer.bundle())
    return replace(plan, tokens=bundle)


def _repository(kind: str, image: Image) -> str:
    return f"{kinds.NAME}/{image.repository}" if kind == OURS else image.repository


def _with_token(server: Server, token: str) -> ServerAddress:
    return replace(server.address, bearer=token)


def _seen(image: Image, address: ServerAddress) -> rows.Work:
    """Return a function that sends all requests with the same token, the one in *address*."""
    return lambda _: rows.get(address, address.manifest(image.repository, "latest"))


def _with_file(image: Image, file: Path) -> rows.Work:
    """Return a function that sends requests, each with the next token in *file*."""

    def work(address: ServerAddress) -> load.Outcome:
        path = address.manifest(image.repository, "latest")
        return load.get_with_tokens(
            address, path, file, connections=rows.CONNECTIONS, seconds=_SECONDS
        )

    return work


def _file(site: Site, signer: Signer) -> Path:
    """Write a file of new tokens, one per line."""
    path = site.folder / f"tokens-{signer.algorithm}.txt"
    path.write_text("".join(f"{signer.token()}\n" for _ in range(_MANY)))
    return path


@cache
def _key(algorithm: str) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey:
    if algorithm == "RS256":
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key(ec.SECP256R1())


def _signer(algorithm: str, repository: str) -> Signer:
    return Signer(algorithm, repository, _key(algorithm))


def _date(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)
