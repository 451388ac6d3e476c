"""Tests of the precedence of the sources, and that all problems are reported at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.config.desk import Desk


def test_flags_override_variables_which_override_the_file(desk: Desk) -> None:
    """Flags override variables, which override the file.

    In this test each of four settings is set in one more source.
    """
    desk.write("cleaner: {ttl: 1d, threshold: 1, runevery: 1m}")

    cleaner = desk.settings(
        "--cleaner.runevery=3m", CLEANER_RUNEVERY_TIME="2m", CLEANER_THRESHOLD_PERCENTAGE="2"
    ).cleaner
    assert (
        cleaner.runevery,
        cleaner.threshold,
        cleaner.ttl,
        cleaner.maxsize,
    ) == (180.0, 2, 86400.0, 10 * 2**30)


def test_every_value_has_its_source(desk: Desk) -> None:
    """`entrepot check` prints the source of every value."""
    desk.write("\nlog:\n  level: debug\n")
    loaded = desk.examine("--cleaner.ttl=1h", CLEANER_MAXSIZE="1G")

    assert f"{desk.file}:3" == loaded.origin(("log", "level"))
    assert loaded.origin(("cleaner", "maxsize")) == "CLEANER_MAXSIZE"
    assert loaded.origin(("cleaner", "ttl")) == "--cleaner.ttl"
    assert loaded.origin(("log", "formatter")) == "default"


def test_a_section_in_the_environment_is_merged_into_the_file(desk: Desk) -> None:
    """A section in a variable is merged into the section in the file.

    REGISTRY_A contains YAML; settings of the file that the YAML lacks stay.
    """
    desk.write("upstreams: {quay.io: {freshness: 1m, ongone: serve}}")
    quay = desk.settings(REGISTRY_UPSTREAMS="{quay.io: {freshness: 2m}, ghcr.io: }").upstreams

    assert {"quay.io", "ghcr.io"} == quay.keys()
    assert (quay["quay.io"].freshness, quay["quay.io"].ongone) == (120.0, "serve")


def test_settings_cannot_be_changed(desk: Desk) -> None:
    """Settings cannot be changed, so all parts of the appliance use the same values."""
    with pytest.raises(ValueError, match="frozen"):
        desk.settings().cleaner.ttl = 1.0


# ---- defaults that depend on the environment


@pytest.mark.parametrize(
    ("environ", "certificate", "expected"),
    [
        ({}, False, "127.0.0.1:5000"),
        ({"ENTREPOT_IMAGE": "1"}, False, ":5000"),
        ({}, True, ":8443"),
        ({"ENTREPOT_IMAGE": "1"}, True, ":8443"),
        ({"REGISTRY_HTTP_ADDR": ":1"}, True, ":1"),
    ],
    ids=["outside", "image", "outside, TLS", "image, TLS", "configured"],
)
def test_the_default_address_depends_on_image_and_certificate(
    desk: Desk, environ: Mapping[str, str], expected: str, *, certificate: bool
) -> None:
    """Without a certificate, and outside the image, the default address is loopback.

    A certificate in the settings implies the default port 8443.
    """
    argv = ["--http.tls.certificate=/c.pem"] if certificate else []

    assert expected == str(desk.settings(*argv, **environ).http.addr)


def test_the_default_data_directory_depends_on_the_image(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The default data directory depends on the image; index and logs are inside it."""
    monkeypatch.chdir(tmp_path)
    outside, image = desk.settings().storage, desk.settings(ENTREPOT_IMAGE="1").storage

    assert (tmp_path / "data", tmp_path / "data/entrepot") == (
        outside.rootdirectory,
        outside.statedir,
    )
    assert Path("/var/lib/registry") == image.rootdirectory
    assert Path("/var/lib/registry/entrepot") == image.statedir
    assert Path("/fast") == desk.settings(ENTREPOT_STATEDIR="/fast").storage.statedir


@pytest.mark.parametrize("name", ["REGISTRYDIR", "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY"])
def test_the_data_directory_has_two_names(desk: Desk, name: str) -> None:
    """The data directory has two variables: a short name and that of docker distribution."""
    storage = desk.settings(**{name: "/srv/images"}).storage

    assert Path("/srv/images") == storage.rootdirectory
    assert Path("/srv/images/entrepot") == storage.statedir


def test_a_secret_at_the_usual_place_is_read(desk: Desk) -> None:
    """A pull secret at the usual place is read without a setting."""
    desk.places.secret.write_text("{}", encoding="utf-8")
    loaded = desk.examine()

    assert desk.places.secret == loaded.settings.pullsecret.path
    assert loaded.origin(("pullsecret", "path")) == "found"
    assert Path("/x") == desk.settings(PULLSECRETPATH="/x").pullsecret.path


def test_a_certificate_at_the_usual_place_is_used(desk: Desk) -> None:
    """A certificate at the usual place is used, and the default port becomes that of TLS."""
    desk.places.certs.mkdir()
    certificate = desk.places.certs / "certs.pem"
    certificate.write_text("", encoding="utf-8")
    http = desk.settings().http

    assert (certificate, ":8443") == (http.tls.certificate, str(http.addr))


def test_a_folder_of_certificates_without_certs_pem_is_a_problem(desk: Desk) -> None:
    """A folder of certificates without certs.pem is a problem: its operator expects TLS.

    Hidden files in the folder of certificates are ignored.
    """
    desk.places.certs.mkdir()
    (desk.places.certs / "..data").write_text("", encoding="utf-8")
    assert desk.problems() == []

    (desk.places.certs / "tls.crt").write_text("", encoding="utf-8")
    remedy = "name it certs/certs.pem, or set http.tls.certificate"
    assert [f"certs: the folder has no certs.pem; {remedy}"] == desk.problems()
    assert desk.problems(f"--http.tls.certificate={desk.places.certs}/tls.crt") == []


def test_in_the_image_an_empty_folder_of_certificates_is_a_problem(desk: Desk) -> None:
    """In the image an empty folder of certificates is a problem, because it is a mount.

    Without a mount of certificates, or with an empty setting, plain HTTP is intended.
    """
    assert desk.problems(ENTREPOT_IMAGE="1") == []

    desk.places.certs.mkdir()
    remedy = "name it certs/certs.pem, or set http.tls.certificate"
    assert [f"certs: the folder has no certs.pem; {remedy}"] == desk.problems(ENTREPOT_IMAGE="1")
    assert desk.problems(ENTREPOT_IMAGE="1", REGISTRY_HTTP_TLS_CERTIFICATE="") == []


def test_an_unreadable_folder_of_certificates_is_a_problem(desk: Desk) -> None:
    """An unreadable folder of certificates is a problem: plain HTTP may be unintended."""
    desk.places.certs.write_text("", encoding="utf-8")
    remedy = "make it readable, or set http.tls.certificate"

    assert [f"certs: not a directory; {remedy}"] == desk.problems()


def test_a_folder_with_only_upstream_authorities_is_valid(desk: Desk) -> None:
    """A folder with only a certificate authority of an upstream (`ca`) is valid."""
    desk.places.certs.mkdir()
    authority = desk.places.certs / "corp.pem"
    authority.write_text("", encoding="utf-8")

    assert desk.problems(f"--upstreams.a.io.ca={authority}") == []


def test_there_is_one_worker_per_core_from_2_to_16(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default is one worker per core, from 2 to 16.

    A busy worker must not block all clients, and haproxy.cfg lists sixteen workers.
    """

    def workers(cores: int) -> int:
        monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)))
        return desk.settings().http.workers

    assert [workers(cores) for cores in (1, 2, 6, 64)] == [2, 2, 6, 16]
