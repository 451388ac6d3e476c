"""Create TLS certificates (`entrepot certs`).

The first run creates a private CA; every run creates a server certificate that the CA signs.

The output folder contains `ca.pem`, which clients must trust, and `ca.key`, with which this command
signs later certificates. The subfolder `certs/` contains only `certs.pem`, with the
appliance's certificate and key. The operator mounts this subfolder as `/certs`.
"""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from entrepot.appliance import authority, options
from entrepot.appliance.atomic_write import SECRET, refuse_untrusted, write
from entrepot.appliance.authority import Pair
from entrepot.config.address import registry_host
from entrepot.config.errors import ConfigError, Problem, Unreadable
from entrepot.runtime.hostnames import bare
from entrepot.runtime.run_names import CERTIFICATE

_VALUED = ("--host", "--out", "--days")
_FOLDER = "entrepot-tls"
_DAYS = 365
_MOST_DAYS = 825  # Apple's systems reject certificates that are valid for longer.
_REMEDY = "delete ca.pem and ca.key to create a new CA, which every client must then trust"


def certs(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Create or renew the certificate, and print instructions. Raises: ConfigError."""
    given = options.parse(argv, _VALUED)
    if given.rest:
        raise ConfigError([Problem(given.rest[0], "unknown option", "give --host NAME")])
    folder, now = Path(given.one("--out") or _FOLDER), dt.datetime.now(dt.UTC)
    life = dt.timedelta(days=_days(given.one("--days")))
    refuse_untrusted(folder, environ)
    hosts = [_host(each) for each in given.all("--host")] or _hosts_before(folder)
    signer, is_new = _authority(folder, now)
    leaf = authority.sign(signer, hosts, now=now, life=life)
    write(folder / "certs" / CERTIFICATE, leaf.key_pem + leaf.pem + signer.pem, SECRET)
    lines = _instructions(folder, hosts, leaf, is_new=is_new)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


def _authority(folder: Path, now: dt.datetime) -> tuple[Pair, bool]:
    """Return the CA in *folder*, and whether it is new. Create a CA if the folder has none."""
    certificate, key = folder / "ca.pem", folder / "ca.key"
    if not certificate.exists() and not key.exists():
        made = authority.create(now)
        write(key, made.key_pem, SECRET)
        write(certificate, made.pem)
        return made, True
    try:
        kept = authority.read(certificate.read_bytes(), key.read_bytes())
    except OSError as error:
        why = f"{Path(error.filename).name}: {(error.strerror or str(error)).lower()}"
        raise ConfigError([Problem(str(folder), why, _REMEDY)]) from error
    except ValueError as error:
        raise ConfigError([Problem(str(folder), str(error).lower(), _REMEDY)]) from error
    if kept.ends <= now:
        raise ConfigError([Problem(str(certificate), f"expired on {kept.ends:%Y-%m-%d}", _REMEDY)])
    return kept, False


def _hosts_before(folder: Path) -> list[str]:
    """Return the hosts of the existing certificate, so that a renewal needs no --host."""
    try:
        return authority.hosts_of((folder / "certs" / CERTIFICATE).read_bytes())
    except (OSError, ValueError):
        message = "the name by which clients reach the appliance is missing"
        remedy = "give --host NAME or --host ADDRESS"
        raise ConfigError([Problem("--host", message, remedy)]) from None


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
        remedy = f"write a whole number from 1 to {_MOST_DAYS}"
        raise ConfigError([Problem(f"--days={given}", "not a valid number of days", remedy)])
    return int(given)


def _instructions(folder: Path, hosts: Sequence[str], leaf: Pair, *, is_new: bool) -> Iterator[str]:
    """Yield lines that explain what each file is for, and how to make each client trust the CA."""
    host = f"[{hosts[0]}]" if ":" in hosts[0] else hosts[0]
    ca = folder / "ca.pem"
    path = folder / "certs" / CERTIFICATE
    yield f"{path}: for {', '.join(hosts)}, valid until {leaf.ends:%Y-%m-%d}"
    yield f"  appliance: mount {folder / 'certs'} as /certs, or set http.tls.certificate"
    yield "to renew the certificate, run the same command; a running appliance then reloads it"
    yield f"{ca}: {'new' if is_new else 'unchanged'}; clients must trust this CA"
    yield f"  configuration of every client: entrepot clients --host {host} --ca {ca}"
    yield f"  podman, buildah, skopeo, CRI-O: /etc/containers/certs.d/{host}:8443/ca.crt"
    yield f"  docker: /etc/docker/certs.d/{host}:8443/ca.crt"
    yield '  containerd: ca = "PATH" in hosts.toml; k3s, RKE2: ca_file in registries.yaml'
    yield "  OpenShift: additionalTrustedCA of image.config.openshift.io/cluster"
    yield "  system-wide on Debian, Ubuntu: /usr/local/share/ca-certificates/entrepot.crt, then"
    yield "    update-ca-certificates"
    yield "  system-wide on Fedora, RHEL: /etc/pki/ca-trust/source/anchors/, then update-ca-trust"
    yield f"{folder / 'ca.key'}: signs certificates for any name; copy it to no client or appliance"
