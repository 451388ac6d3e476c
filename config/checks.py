"""Check whether the appliance can use the files and folders that the settings name.

The checks run when the appliance starts. Each problem of a file or folder is reported in one line.
The checks leave no files behind and change no existing file.
"""

from __future__ import annotations

import datetime as dt
import errno
import os
import shutil
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from entrepot.config import (
    middleware_settings,
    pull_secret,
    reporting_settings,
    storage_middleware,
    token_auth,
)
from entrepot.config.errors import ConfigError, Problem
from entrepot.config.htpasswd import REMEDY, has_users, htpasswd_problems
from entrepot.config.pull_secret import ParsedPullSecret
from entrepot.config.schema import Settings

_IN_MEMORY = {"tmpfs", "ramfs"}
_MAY_PASS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
_MOUNT_A_FILE = "mount an existing file by its path (./NAME); otherwise Docker creates a folder"


def check(settings: Settings) -> list[Problem]:
    """Return a problem for every file, folder, program and package that can't be used."""
    return [
        *_folders(settings),
        *certificate_problems(settings),
        *client_authority_problems(settings),
        *_htpasswd(settings),
        *token_auth.key_problems(settings),
        *read_secret(settings)[1],
        *_upstreams(settings),
        *_helper(settings),
        *reporting_settings.problems(settings.reporting),
        *middleware_settings.problems(settings.middleware),
        *storage_middleware.key_problems(settings.middleware.target),
    ]


def remarks(settings: Settings) -> list[Problem]:
    """Return a warning for each part of a configured file that has no effect or breaks clients.

    An example is a certificate that clients reject.
    """
    secret, _ = read_secret(settings)
    return [
        *secret.warnings,
        *_no_users(settings),
        *token_auth.key_remarks(settings),
        *_refused_by_clients(settings),
    ]


def _refused_by_clients(settings: Settings) -> Iterator[Problem]:
    path = settings.http.tls.certificate
    if path is None:
        return
    from entrepot.config.certificates import faults  # noqa: PLC0415 - 20 ms and 8 MB, only for TLS

    with suppress(OSError):  # The function `check` reports an unreadable file as a problem.
        for fault, remedy in faults(path.read_bytes(), dt.datetime.now(dt.UTC)):
            yield Problem(f"http.tls.certificate={path}", fault, remedy)


def _no_users(settings: Settings) -> Iterator[Problem]:
    htpasswd = settings.auth.htpasswd
    if htpasswd is None or htpasswd.path is None or htpasswd.users:
        return
    with suppress(OSError):
        if not has_users(htpasswd.path.read_bytes()):
            yield Problem(
                str(htpasswd.path), "the password file has no users, so all logins fail", REMEDY
            )


def _folders(settings: Settings) -> Iterator[Problem]:
    storage = settings.storage
    if storage.inmemory:
        yield from _in_memory(settings)
        return
    if storage.bucket:
        if find_spec("obstore") is None:
            remedy = "install it: pip install 'entrepot[storage]'"
            yield Problem(
                f"storage.{storage.driver}", "the package obstore is not installed", remedy
            )
        yield from _writable(storage.statedir, "storage.statedir", "ENTREPOT_STATEDIR")
        return
    yield from _writable(storage.rootdirectory, "storage.filesystem.rootdirectory", "REGISTRYDIR")
    if not storage.statedir.is_relative_to(storage.rootdirectory):
        yield from _writable(storage.statedir, "storage.statedir", "ENTREPOT_STATEDIR")


def _in_memory(settings: Settings) -> Iterator[Problem]:
    from entrepot.runtime.mounts import file_system_of  # noqa: PLC0415 - only with this driver

    root = settings.storage.rootdirectory
    key = "storage.inmemory.rootdirectory"
    if (found := file_system_of(root)) not in _IN_MEMORY:
        remedy = "name a folder on a tmpfs (--tmpfs /data), or use storage.filesystem"
        yield Problem(
            f"{key}={root}", f"the file system of the folder is {found or 'unknown'}", remedy
        )
    else:
        yield from _writable(root, key, f"REGISTRY_{key.replace('.', '_').upper()}")


def _writable(folder: Path, key: str, variable: str) -> Iterator[Problem]:
    there = next(each for each in (folder, *folder.parents) if _is_there(each))
    try:
        with tempfile.TemporaryFile(dir=there):
            return
    except OSError as error:
        # These errors (such as a full or read-only disk) leave stored content readable, so the
        # appliance may start.
        if there == folder and error.errno in _MAY_PASS:
            return
        why = (error.strerror or str(error)).lower()
    remedy = f"make the folder writable, or set {variable} to another folder"
    yield Problem(f"{key}={folder}", f"{there} is not writable: {why}", remedy)


def certificate_problems(settings: Settings) -> list[Problem]:
    """Return a problem for each reason why HAProxy can't use the certificate and its key."""
    return list(_certificate(settings))


def client_authority_problems(settings: Settings) -> list[Problem]:
    """Return a problem for each file of `http.tls.clientcas` that HAProxy can't use."""
    name = "http.tls.clientcas"
    return [
        problem
        for path in settings.http.tls.clientcas
        for problem in list(_unread(path, name)) or _authority(path, name)
    ]


def _certificate(settings: Settings) -> Iterator[Problem]:
    tls = settings.http.tls
    if tls.certificate is None:
        return
    key = tls.key or tls.certificate
    names = {tls.certificate: "http.tls.certificate", key: "http.tls.key"}
    names[tls.certificate] = "http.tls.certificate"
    unread = [each for path, name in names.items() for each in _unread(path, name)]
    yield from unread
    if not unread:
        yield from _pair(tls.certificate, key)


def _pair(certificate: Path, key: Path) -> Iterator[Problem]:
    source = f"http.tls.certificate={certificate}"
    if b"CERTIFICATE-----" not in certificate.read_bytes():
        yield Problem(source, "no certificate in it", "write it in PEM")
    elif b"PRIVATE KEY-----" not in key.read_bytes():
        if key == certificate:
            yield Problem(source, "no key in it", "put the key into it, or set http.tls.key")
        else:
            yield Problem(f"http.tls.key={key}", "no key in it", "write it in PEM")
    else:
        yield from _match(certificate, key, source)


def _match(certificate: Path, key: Path, source: str) -> Iterator[Problem]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=_no_passphrase)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            message, remedy = "the key belongs to another certificate", "use a matching pair"
        else:
            message, remedy = "certificate or key can't be read", "write both in PEM, unencrypted"
        yield Problem(source, message, remedy)


def _no_passphrase() -> str:
    # Without this empty password, OpenSSL would ask for a password on the terminal, and the start
    # would hang.
    return ""


def _htpasswd(settings: Settings) -> list[Problem]:
    htpasswd = settings.auth.htpasswd
    if htpasswd is None or htpasswd.path is None:
        return []
    unread = list(_unread(htpasswd.path, "auth.htpasswd.path", "name a file made with htpasswd -B"))
    return unread or htpasswd_problems(htpasswd.path.read_bytes(), str(htpasswd.path))


def read_secret(settings: Settings) -> tuple[ParsedPullSecret, list[Problem]]:
    """Read the pull secret.

    If the pull secret is invalid, return an empty secret and the problems.
    """
    path = settings.pullsecret.path
    if path is None:
        return ParsedPullSecret(), []
    if unread := list(_unread(path, "pullsecret.path", "mount the secret, or set PULLSECRETPATH")):
        return ParsedPullSecret(), unread
    try:
        found = pull_secret.parse(path.read_bytes(), settings.pullsecret.ignore, source=str(path))
    except ConfigError as error:
        return ParsedPullSecret(), list(error.problems)
    return found, []


def _upstreams(settings: Settings) -> Iterator[Problem]:
    for host, upstream in settings.upstreams.items():
        if upstream.passwordfile is not None:
            yield from _unread(upstream.passwordfile, f"upstreams.{host}.passwordfile")
        if upstream.ca is not None:
            name = f"upstreams.{host}.ca"
            yield from list(_unread(upstream.ca, name)) or _authority(upstream.ca, name)


def _helper(settings: Settings) -> Iterator[Problem]:
    command = settings.proxy.exec.command
    if command and shutil.which(command) is None:
        remedy = "install the program, or write the path of a program that can be executed"
        yield Problem(f"proxy.exec.command={command}", "no such program", remedy)


def _authority(path: Path, name: str) -> Iterator[Problem]:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        yield Problem(f"{name}={path}", "no certificate in it", "write it in PEM")


def _unread(
    path: Path, key: str, remedy: str = "name a file that can be read"
) -> Iterator[Problem]:
    """Yield a problem if a file can't be read.

    If the source of a mount is missing, Docker creates a folder at its path. So the remedy for a
    folder is to mount an existing file.
    """
    try:
        with path.open("rb") as file:
            file.read(1)
    except IsADirectoryError:
        yield Problem(f"{key}={path}", "is a directory", _MOUNT_A_FILE)
    except PermissionError:
        yield Problem(f"{key}={path}", "permission denied", f"let user {os.geteuid()} read it")
    except OSError as error:
        yield Problem(f"{key}={path}", (error.strerror or str(error)).lower(), remedy)


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except OSError:
        return False
    return True
