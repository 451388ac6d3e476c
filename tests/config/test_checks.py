"""Test `check` and `remarks`, which report unusable files and folders in the settings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import bcrypt
import pytest

from entrepot.config.checks import check, remarks
from entrepot.config.loader import load
from entrepot.config.schema import Settings
from tests.certificates import Authority
from tests.config.config_folder import ConfigFolder


@pytest.fixture
def data(tmp_path: Path) -> str:
    """Return the flag that names a valid data directory."""
    return f"--storage.filesystem.rootdirectory={tmp_path}"


def _lines(settings: Settings) -> list[str]:
    return [str(each) for each in check(settings)]


# ---- the data directory


def test_a_missing_data_directory_is_valid_and_not_created(
    config_folder: ConfigFolder, tmp_path: Path
) -> None:
    """A missing data directory is valid, and the check does not create it."""
    folder = tmp_path / "a/b/c"

    assert _lines(config_folder.settings(REGISTRYDIR=str(folder))) == []
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("below", ["", "/data"])
def test_a_data_directory_that_is_a_file_is_a_problem(
    config_folder: ConfigFolder, tmp_path: Path, below: str
) -> None:
    """A data directory that is a file, or whose path is below a file, is a problem."""
    file = tmp_path / "file"
    file.write_text("", encoding="utf-8")

    remedy = "make the folder writable, or set REGISTRYDIR to another folder"
    why = f"{file} is not writable: not a directory"
    expected = f"storage.filesystem.rootdirectory={file}{below}: {why}; {remedy}"
    assert [expected] == _lines(config_folder.settings(REGISTRYDIR=f"{file}{below}"))


def test_an_unwritable_data_directory_is_a_problem(config_folder: ConfigFolder) -> None:
    """A data directory in which not even root can create files, such as /proc, is a problem."""
    (line,) = _lines(config_folder.settings(REGISTRYDIR="/proc/entrepot"))

    assert line.startswith(
        "storage.filesystem.rootdirectory=/proc/entrepot: /proc is not writable: "
    )


def test_a_state_directory_outside_the_data_directory_is_checked_too(
    config_folder: ConfigFolder, data: str
) -> None:
    """The checks at the start also examine a state directory outside the data directory.

    If the state directory is inside the data directory, a problem of both is reported once.
    """
    (line,) = _lines(config_folder.settings(data, ENTREPOT_STATEDIR="/proc/state"))

    assert line.startswith("storage.statedir=/proc/state: /proc is not writable: ")
    assert len(_lines(config_folder.settings(REGISTRYDIR="/proc/entrepot"))) == 1


# ---- certificate and key


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Return a certificate authority."""
    return Authority(tmp_path)


def _tls(
    config_folder: ConfigFolder, data: str, certificate: Path, key: Path | None = None
) -> list[str]:
    flags = [f"--http.tls.certificate={certificate}"]
    flags += [f"--http.tls.key={key}"] if key else []
    return _lines(config_folder.settings(data, *flags))


def _halves(pem: Path) -> tuple[Path, Path]:
    certificate, key = pem.with_suffix(".crt"), pem.with_suffix(".key")
    text = pem.read_text(encoding="utf-8")
    begin = text.index("-----BEGIN PRIVATE")
    certificate.write_text(text[:begin], encoding="utf-8")
    key.write_text(text[begin:], encoding="utf-8")
    return certificate, key


def test_a_certificate_with_its_key_is_valid(
    config_folder: ConfigFolder, data: str, authority: Authority
) -> None:
    """A certificate with its key is valid, in one file or in two."""
    pem = authority.certificate("registry.example")

    assert _tls(config_folder, data, pem) == []
    assert _tls(config_folder, data, *_halves(pem)) == []


def test_a_certificate_without_a_key_is_a_problem(
    config_folder: ConfigFolder, data: str, authority: Authority
) -> None:
    """A certificate without a key is a problem, which HAProxy would report in twelve lines."""
    certificate, _ = _halves(authority.certificate("registry.example"))

    why = "no key in it; put the key into it, or set http.tls.key"
    assert [f"http.tls.certificate={certificate}: {why}"] == _tls(config_folder, data, certificate)


def test_a_key_of_another_certificate_is_a_problem(
    config_folder: ConfigFolder, data: str, authority: Authority
) -> None:
    """A key of another certificate is a problem; perhaps only one of two files was renewed."""
    certificate, _ = _halves(authority.certificate("a.example"))
    _, key = _halves(authority.certificate("b.example"))

    why = "the key belongs to another certificate; use a matching pair"
    assert [f"http.tls.certificate={certificate}: {why}"] == _tls(
        config_folder, data, certificate, key
    )


def test_a_key_file_without_a_key_is_a_problem(
    config_folder: ConfigFolder, data: str, authority: Authority
) -> None:
    """A key file without a key is a problem; the two files may be swapped."""
    certificate, key = _halves(authority.certificate("a.example"))

    swapped = _tls(config_folder, data, key, certificate)
    assert [f"http.tls.certificate={key}: no certificate in it; write it in PEM"] == swapped
    twice = _tls(config_folder, data, certificate, authority.path)
    assert [f"http.tls.key={authority.path}: no key in it; write it in PEM"] == twice


def test_an_encrypted_key_is_a_problem_without_a_prompt(
    config_folder: ConfigFolder, data: str, authority: Authority
) -> None:
    """An encrypted key is a problem, and the check does not prompt for the passphrase.

    OpenSSL would prompt for the passphrase on the terminal, and the start would hang.
    """
    certificate, key = _halves(authority.certificate("a.example"))
    body = "MIIFHzBJBgkqhkiG9w0BBQ0wPDAbBgkqhkiG9w0BBQwwDgQI"
    key.write_text(
        f"-----BEGIN ENCRYPTED PRIVATE KEY-----\n{body}\n-----END ENCRYPTED PRIVATE KEY-----\n",
        encoding="utf-8",
    )

    (line,) = _tls(config_folder, data, certificate, key)
    assert "certificate or key can't be read; write both in PEM, unencrypted" in line


def test_each_missing_tls_file_is_a_problem(
    config_folder: ConfigFolder, data: str, tmp_path: Path
) -> None:
    """Each missing TLS file is a problem; a file for both certificate and key is one problem."""
    absent, other = tmp_path / "a.pem", tmp_path / "b.pem"

    tail = "no such file or directory; name a file that can be read"
    both = [f"http.tls.certificate={absent}: {tail}", f"http.tls.key={other}: {tail}"]
    assert both == _tls(config_folder, data, absent, other)
    assert both[:1] == _tls(config_folder, data, absent)


# ---- passwords, pull secret and upstreams


def test_a_missing_password_file_is_a_problem(
    config_folder: ConfigFolder, data: str, tmp_path: Path
) -> None:
    """A missing password file is a problem; the registry does not start open to everyone.

    The appliance does not create a missing password file, as docker distribution would.
    """
    path = tmp_path / "htpasswd"

    why = "no such file or directory; name a file made with htpasswd -B"
    found = _lines(config_folder.settings(data, REGISTRY_AUTH_HTPASSWD_PATH=str(path)))
    assert [f"auth.htpasswd.path={path}: {why}"] == found


def test_a_password_file_that_is_a_folder_is_a_problem(
    config_folder: ConfigFolder, data: str, tmp_path: Path
) -> None:
    """A password file that is a folder is a problem.

    The configuration of Debian's package docker-registry names a folder as password file.
    """
    (line,) = _lines(config_folder.settings(data, REGISTRY_AUTH_HTPASSWD_PATH=str(tmp_path)))

    assert line.startswith(f"auth.htpasswd.path={tmp_path}: is a directory; ")


def test_a_hash_that_is_not_bcrypt_is_a_problem(
    config_folder: ConfigFolder, data: str, tmp_path: Path
) -> None:
    """The problem about a hash that is not bcrypt names the password file and the line."""
    path = tmp_path / "htpasswd"
    path.write_bytes(b"a:" + bcrypt.hashpw(b"x", bcrypt.gensalt(4)) + b"\nb:{SHA}abc\n")

    found = _lines(config_folder.settings(data, REGISTRY_AUTH_HTPASSWD_PATH=str(path)))
    assert [
        f"{path}:2: the password of 'b' is not bcrypt; write the file with htpasswd -B"
    ] == found


def test_each_invalid_entry_of_a_secret_is_a_problem(
    config_folder: ConfigFolder, data: str, tmp_path: Path
) -> None:
    """Each invalid entry of a pull secret is a problem with the name of the file."""
    path = tmp_path / "secret.json"
    path.write_text('{"auths": {"a.io": {"auth": "%"}, "b.io": 5}}', encoding="utf-8")

    found = _lines(config_folder.settings(data, PULLSECRETPATH=str(path)))
    assert [f'{path}: entry "a.io"', f'{path}: entry "b.io"'] == [
        each[: len(str(path)) + 14] for each in found
    ]


def test_a_missing_secret_is_a_problem(
    config_folder: ConfigFolder, data: str, tmp_path: Path
) -> None:
    """A pull secret that the operator names and that does not exist is a problem."""
    path = tmp_path / "absent"
    remedy = "mount the secret, or set PULLSECRETPATH"

    found = _lines(config_folder.settings(data, PULLSECRETPATH=str(path)))
    assert [f"pullsecret.path={path}: no such file or directory; {remedy}"] == found


def test_a_folder_in_place_of_a_secret_is_a_problem(
    config_folder: ConfigFolder, data: str, tmp_path: Path
) -> None:
    """A folder in place of a pull secret is a problem.

    Docker creates such a folder if the source of a mount is missing.
    """
    remedy = "mount an existing file by its path (./NAME); otherwise Docker creates a folder"

    found = _lines(config_folder.settings(data, PULLSECRETPATH=str(tmp_path)))
    assert [f"pullsecret.path={tmp_path}: is a directory; {remedy}"] == found


def test_a_part_of_a_secret_without_effect_is_a_warning(
    config_folder: ConfigFolder, data: str, tmp_path: Path
) -> None:
    """A part of a pull secret without effect causes a warning, and the appliance starts."""
    path = tmp_path / "secret.json"
    path.write_text('{"auths": {}, "credsStore": "desktop"}', encoding="utf-8")
    settings = config_folder.settings(data, PULLSECRETPATH=str(path))

    assert check(settings) == []
    assert [f"{path}: credsStore"] == [each.source for each in remarks(settings)]
    assert remarks(config_folder.settings(data, PULLSECRETPATH="")) == []


def test_files_of_upstreams_are_checked(
    config_folder: ConfigFolder, data: str, tmp_path: Path, authority: Authority
) -> None:
    """The files of an upstream's settings are checked: its CA and its password file."""
    text, absent = tmp_path / "text", tmp_path / "absent"
    text.write_text("secret", encoding="utf-8")
    config_folder.write(
        f"""
        upstreams:
          a.io: {{ca: {authority.path}, username: u, passwordfile: {text}}}
          b.io: {{ca: {text}, username: u, passwordfile: {absent}}}
          c.io: {{ca: {absent}}}
        """
    )

    tail = "no such file or directory; name a file that can be read"
    expected = [
        f"upstreams.b.io.passwordfile={absent}: {tail}",
        f"upstreams.b.io.ca={text}: no certificate in it; write it in PEM",
        f"upstreams.c.io.ca={absent}: {tail}",
    ]
    assert expected == _lines(config_folder.settings(data))


@pytest.mark.parametrize("content", ["", "\n", "# ann\n  # bob\n", "\r\n"])
def test_a_password_file_without_users_is_a_warning(tmp_path: Path, content: str) -> None:
    """A password file without users causes only a warning: users may be added later.

    Until then all logins fail.
    """
    path = tmp_path / "htpasswd"
    path.write_text(content)
    settings = load([f"--auth.htpasswd.path={path}"], {}).settings

    assert [str(each) for each in remarks(settings)] == [
        (
            f"{path}: the password file has no users, so all logins fail;"
            " write the file with htpasswd -B"
        )
    ]
    path.write_text(f"{content}ann:$2y$05$" + "a" * 53)
    assert remarks(settings) == []


@pytest.mark.slow
def test_a_check_without_a_certificate_does_not_load_the_library_for_certificates() -> None:
    """A check without a certificate does not load the library for certificates.

    The library uses 8 MB of memory in each process that checks its settings.
    """
    program = (
        "import sys; from entrepot.config.checks import remarks;"
        "from entrepot.config.schema import Settings; remarks(Settings());"
        "print('cryptography' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")
