"""Prepare a run: make the images to pull, and start the upstream."""

from __future__ import annotations

import datetime as dt
import ipaddress
import itertools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import bcrypt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bench import content, kinds
from bench.address import free_port
from bench.kinds import Kind, Plan
from bench.nginx import lay_out
from bench.server import Server
from bench.upstream import Log, push

_LOGIN = "bench:a long enough password"
_ROUNDS = 10  # the cost factor of bcrypt: 2**10 rounds of its key schedule
_YEAR = dt.timedelta(days=365)


@dataclass(frozen=True, slots=True)
class Site:
    """The objects that all stages of a run share: the upstream, the images, the compared servers.

    Most rows use the image `app`; the pull over the simulated line uses `large`. `log` is the
    upstream's access log.
    """

    folder: Path
    kinds: Sequence[Kind]
    upstream: Server
    log: Log
    app: content.Image
    large: content.Image
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def url(self) -> str:
        """Return the upstream's URL."""
        return self.upstream.address.url("")

    def plain(self, source: str = "") -> Plan:
        """Return the plan of a server without passwords and TLS, with a new folder.

        *source* is the URL of the server's upstream; if it is empty, the benchmark's upstream is
        used.
        """
        folder = self.folder / f"start{next(self._numbers)}"
        folder.mkdir()
        return Plan(folder, source or self.url, static=self.folder / "static")

    def login(self) -> Plan:
        """Return the plan of a server whose clients need a password."""
        plan = self.plain()
        hashed = bcrypt.hashpw(_LOGIN.partition(":")[2].encode(), bcrypt.gensalt(_ROUNDS))
        file = plan.folder / "htpasswd"
        file.write_bytes(b"bench:" + hashed + b"\n")
        return Plan(plan.folder, plan.upstream, _LOGIN, file, static=plan.static)

    def tls(self) -> Plan:
        """Return the plan of a server whose clients use TLS."""
        plan = self.plain()
        pem = plan.folder / "bench.pem"
        pem.write_bytes(certificate())
        return Plan(plan.folder, plan.upstream, pem=pem, static=plan.static)


@contextmanager
def opened(folder: Path, chosen: Sequence[Kind]) -> Iterator[Site]:
    """Make the images, start the upstream, and push the images to it; yield the site."""
    app, large = content.warm_image(), content.line_image()
    lay_out(folder / "static", [app])
    (folder / "upstream").mkdir()
    with ExitStack() as stack:
        server = stack.enter_context(Server(kinds.upstream(folder / "upstream", free_port())))
        for image in (app, large):
            push(server.address, image)
        log = Log(server.log)
        log.fresh()
        yield Site(folder, chosen, server, log, app, large)


def certificate() -> bytes:
    """Return a self-signed certificate for 127.0.0.1, and its P-256 key, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _YEAR)
        .not_valid_after(now + _YEAR)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return signed.public_bytes(serialization.Encoding.PEM) + private
