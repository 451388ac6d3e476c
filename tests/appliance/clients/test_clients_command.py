"""Test the options, the output and the files of `entrepot clients`."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from entrepot.appliance.__main__ import main
from entrepot.appliance.clients import NAMES
from tests.certificates import Authority

QUAY = "--upstreams.quay.io.freshness=5m"


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def output_of(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run `entrepot clients` with these words, assert exit code 0, and return its output."""
    assert main(["clients", *words]) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run `entrepot clients` with bad input, assert exit code 2, and return its line of output."""
    assert main(["clients", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_without_a_client_option_all_clients_are_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`entrepot clients` prints each client's files, and the steps to install them."""
    text = output_of(capsys, "--host", "cache.test", QUAY)

    assert [name for name in NAMES if f"######## {name} (" not in text] == []
    assert "==== /etc/containers/registries.conf.d/50-entrepot.conf" in text
    assert text.count("==== instructions") == len(NAMES)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("cache.test", "http://cache.test:5123"),
        ("cache.test:80", "http://cache.test:80"),
        ("https://cache.test", "https://cache.test"),
        ("https://cache.test:8443/", "https://cache.test:8443"),
        ("http://[::1]", "http://[::1]:80"),
        ("[::1]", "http://[::1]:5123"),
    ],
)
def test_missing_parts_of_the_host_come_from_the_settings(
    capsys: pytest.CaptureFixture[str], host: str, url: str
) -> None:
    """If `--host` has no scheme, the scheme and a missing port come from the appliance's settings.

    If `--host` has a scheme, a missing port is the default port of that scheme.
    """
    own = "--http.addr=:5123"

    text = output_of(capsys, "--host", host, "--client", "containerd", QUAY, own)

    assert f'[host."{url}"]' in text


def test_a_private_ca_is_read_from_the_appliances_certificate(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Without `--ca`, `entrepot clients` reads the CA from the appliance's certificate file.

    `entrepot certs` appends the CA to the certificate in this file. A file from a public CA
    contains no root certificate, and clients need none.
    """
    signer = Authority(tmp_path)
    chain = signer.certificate("cache.test")
    flags = ["--host", "cache.test", "--client", "podman", f"--http.tls.certificate={chain}"]
    without = output_of(capsys, *flags)
    chain.write_bytes(chain.read_bytes() + signer.path.read_bytes())

    text = output_of(capsys, *flags)

    assert "/etc/containers/certs.d" not in without
    assert "/etc/containers/certs.d/cache.test:8443/ca.crt" in text
    assert signer.path.read_text() in text


def test_a_login_is_read_from_the_file_of_podman_login(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """With `--authfile` the password comes from auth.json, the file that `podman login` writes.

    The output files of `entrepot clients` that contain the password are private.
    """
    auth = {"auths": {"cache.test:5000": {"username": "u", "password": "p"}}}
    (tmp_path / "auth.json").write_text(json.dumps(auth))
    words = ["--host", "cache.test:5000", "--authfile", "auth.json", "--out", "out", QUAY]

    output_of(capsys, *words)

    secret = tmp_path / "out/containerd/etc/containerd/certs.d/quay.io/hosts.toml"
    public = tmp_path / "out/podman/etc/containers/registries.conf.d/50-entrepot.conf"
    assert "Basic dTpw" in secret.read_text()
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert stat.S_IMODE(public.stat().st_mode) == 0o644


def test_written_files_have_the_layout_of_the_clients_file_system(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`--out` writes a folder for each client, with the same paths as in the client's file system.

    A second run with the same options adds no file.
    """
    for _ in range(2):
        text = output_of(capsys, "--host=cache.test", "--out=out", "--client=k3s", QUAY)

    assert "out/k3s" in text
    assert sorted(str(each.relative_to("out")) for each in Path("out").rglob("*.*")) == [
        "k3s/HOW.txt",
        "k3s/etc/rancher/k3s/registries.yaml",
    ]


def test_a_client_may_be_named_by_another_program_with_the_same_files(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """CRI-O reads the files of podman, so `--client` accepts both names."""
    assert "######## podman" in output_of(capsys, "--host", "c", "--client", "cri-o", QUAY)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "--host: missing"),
        (["--host"], "--host: a value is missing"),
        (["--host", "a", "--host", "b"], "--host: given twice"),
        (["--host", "a_b"], "--host=a_b: not a registry's host"),
        (["--host", "ftp://a"], "--host=ftp://a: not http or https"),
        (["--host", "a", "--client", "emacs"], "--client=emacs: no such client; try containerd"),
        (["--host", "https://a", "--ca", "no.pem"], "no.pem: no such file or directory"),
        (["--host", "https://a", "--ca", "text"], "text: no certificate in PEM"),
        (["--host", "https://a", "--ca", "leaf.test.pem"], "leaf.test.pem: the file has no CA"),
        (["--host", "a", "--authfile", "no.json"], "--authfile=no.json: no such file"),
        (["--host", "a", "--authfile", "auth.json"], "auth.json: the file has no login for a:5000"),
        (["--host", "a", "--out", "text/below"], "not a directory"),
        (["--host", "a", "--cleaner.maxsize=10X"], "10X"),
    ],
)
def test_bad_input_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str], expected: str
) -> None:
    """For bad input `entrepot clients` prints one line with the right syntax or the remedy."""
    (tmp_path / "text").write_text("hello")
    (tmp_path / "auth.json").write_text('{"auths": {"b:5000": {}}}')
    Authority(tmp_path).certificate("leaf.test")

    assert expected in refused(capsys, *words)
