"""`entrepot certs`: an authority once, a server's certificate as often as it is needed.

Below the folder: `ca.pem`, which clients trust; `ca.key`, which nobody needs but us, the next time;
and `certs/`, with `certs.pem` alone, which is what the appliance gets as its `/certs`.
"""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from entrepot.appliance import authority, options
from entrepot.appliance.atomic_write import SECRET, write
from entrepot.appliance.authority import Pair
from entrepot.appliance.supervise.certificate import NAME
from entrepot.config.address import bare, registry_host
from entrepot.config.errors import ConfigError, Problem, Unreadable

_VALUED = ("--host", "--out", "--days")
_FOLDER = "entrepot-tls"
_DAYS = 365
_MOST_DAYS = 825  # Apple's systems take no more
_KEY = "delete ca.pem and ca.key for a new authority, which every client must then be told of"


def certs(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Make or renew the certificate, and say how clients come to trust it. Raises: ConfigError."""
    del environ
    told = options.part(argv, _VALUED)
    if told.rest:
        raise ConfigError([Problem(told.rest[0], "not known here", "say --host NAME")])
    folder, now = Path(told.one("--out") or _FOLDER), dt.datetime.now(dt.UTC)
    life = dt.timedelta(days=_days(told.one("--days")))
    hosts = [_host(each) for each in told.all("--host")] or _hosts_before(folder)
    signer, is_new = _authority(folder, now)
    leaf = authority.sign(signer, hosts, now=now, life=life)
    write(folder / "certs" / NAME, leaf.key_pem + leaf.pem + signer.pem, SECRET)
    sys.stdout.write("".join(f"{line}\n" for line in _told(folder, hosts, leaf, is_new=is_new)))
    return 0


def _authority(folder: Path, now: dt.datetime) -> tuple[Pair, bool]:
    """Read the authority, or make one where there is none."""
    certificate, key = folder / "ca.pem", folder / "ca.key"
    if not certificate.exists() and not key.exists():
        made = authority.found(now)
        write(key, made.key_pem, SECRET)
        write(certificate, made.pem)
        return made, True
    try:
        kept = authority.read(certificate.read_bytes(), key.read_bytes())
    except OSError as error:
        why = f"{Path(error.filename).name}: {(error.strerror or str(error)).lower()}"
        raise ConfigError([Problem(str(folder), why, _KEY)]) from error
    except ValueError as error:
        raise ConfigError([Problem(str(folder), str(error).lower(), _KEY)]) from error
    if kept.ends <= now:
        raise ConfigError([Problem(str(certificate), f"ended on {kept.ends:%Y-%m-%d}", _KEY)])
    return kept, False


def _hosts_before(folder: Path) -> list[str]:
    """Return what the certificate that is there is for: a renewal need not say it again."""
    try:
        return authority.hosts_of((folder / "certs" / NAME).read_bytes())
    except (OSError, ValueError):
        message = "missing: what do clients call the appliance?"
        raise ConfigError([Problem("--host", message, "say --host NAME, or an address")]) from None


def _host(given: str) -> str:
    name = f"[{given}]" if given.count(":") > 1 and not given.startswith("[") else given
    try:
        return bare(registry_host(name))
    except Unreadable as error:
        remedy = "try cache.example.org or 192.0.2.7"
        raise ConfigError([Problem(f"--host={given}", "not a host", remedy)]) from error


def _days(given: str | None) -> int:
    if given is None:
        return _DAYS
    if not given.isascii() or not given.isdigit() or not 1 <= int(given) <= _MOST_DAYS:
        remedy = f"a whole number from 1 to {_MOST_DAYS}"
        raise ConfigError([Problem(f"--days={given}", "not that many", remedy)])
    return int(given)


def _told(folder: Path, hosts: Sequence[str], leaf: Pair, *, is_new: bool) -> Iterator[str]:
    host = f"[{hosts[0]}]" if ":" in hosts[0] else hosts[0]
    ca = folder / "ca.pem"
    yield f"{folder / 'certs' / NAME}: for {', '.join(hosts)}, until {leaf.ends:%Y-%m-%d}"
    yield f"  the appliance: mount {folder / 'certs'} as /certs, or set http.tls.certificate"
    yield "  renew it with the same command; an appliance that runs takes it up by itself"
    yield f"{ca}: {'new' if is_new else 'as before'}, for clients to trust"
    yield f"  all of them, with their configuration: entrepot clients --host {host} --ca {ca}"
    yield f"  podman, buildah, skopeo, CRI-O: /etc/containers/certs.d/{host}:8443/ca.crt"
    yield f"  docker: /etc/docker/certs.d/{host}:8443/ca.crt"
    yield '  containerd: ca = "PATH" in hosts.toml; k3s, RKE2: ca_file in registries.yaml'
    yield "  OpenShift: additionalTrustedCA of image.config.openshift.io/cluster"
    yield "  everything on Debian, Ubuntu: /usr/local/share/ca-certificates/entrepot.crt, then"
    yield "    update-ca-certificates"
    yield "  everything on Fedora, RHEL: /etc/pki/ca-trust/source/anchors/, then update-ca-trust"
    yield f"{folder / 'ca.key'}: can sign for any name; keep it away from clients and appliance"
