"""Tests of the precedence of the sources of settings, and of the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.config.config_folder import ConfigFolder


def test_flags_override_variables_which_override_the_file(config_folder: ConfigFolder) -> None:
    """Flags override variables, which override the file.

    In this test, the file sets `ttl`, `threshold` and `runevery`. Variables override `threshold`
    and `runevery`, and a flag overrides `runevery`. No source sets `maxsize`.
    """
    config_folder.write("cleaner: {ttl: 1d, threshold: 1, runevery: 1m}")

    cleaner = config_folder.settings(
        "--cleaner.runevery=3m", CLEANER_RUNEVERY_TIME="2m", CLEANER_THRESHOLD_PERCENTAGE="2"
    ).cleaner
    assert (
        cleaner.runevery,
        cleaner.threshold,
        cleaner.ttl,
        cleaner.maxsize,
    ) == (180.0, 2, 86400.0, 10 * 2**30)


def test_every_value_has_its_source(config_folder: ConfigFolder) -> None:
    """`origin` returns the source of every value, which `entrepot check` prints."""
    config_folder.write("\nlog:\n  level: debug\n")
    loaded = config_folder.examine("--cleaner.ttl=1h", CLEANER_MAXSIZE="1G")

    assert f"{config_folder.file}:3" == loaded.origin(("log", "level"))
    assert loaded.origin(("cleaner", "maxsize")) == "CLEANER_MAXSIZE"
    assert loaded.origin(("cleaner", "ttl")) == "--cleaner.ttl"
    assert loaded.origin(("log", "formatter")) == "default"


def test_a_section_in_the_environment_is_merged_into_the_file(config_folder: ConfigFolder) -> None:
    """A section in a variable is merged into the section in the file.

    The variable contains YAML. Settings of the file that this YAML lacks stay in force.
    """
    config_folder.write("upstreams: {quay.io: {freshness: 1m, ongone: serve}}")
    quay = config_folder.settings(
        REGISTRY_UPSTREAMS="{quay.io: {freshness: 2m}, ghcr.io: }"
    ).upstreams

    assert {"quay.io", "ghcr.io"} == quay.keys()
    assert (quay["quay.io"].freshness, quay["quay.io"].ongone) == (120.0, "serve")


def test_settings_cannot_be_changed(config_folder: ConfigFolder) -> None:
    """Settings cannot be changed, so all parts of the appliance use the same values."""
    with pytest.raises(AttributeError, match="cannot be changed"):
        config_folder.settings().cleaner.ttl = 1.0


# ---- defaults that depend on the machine and the image


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
    config_folder: ConfigFolder, environ: Mapping[str, str], expected: str, *, certificate: bool
) -> None:
    """Without a certificate, and outside the image, the default address is loopback.

    A certificate in the settings implies the default port 8443.
    """
    argv = ["--http.tls.certificate=/c.pem"] if certificate else []

    assert expected == str(config_folder.settings(*argv, **environ).http.addr)


def test_the_default_data_directory_depends_on_the_image(
    config_folder: ConfigFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The default data directory depends on the image; the state directory is inside it."""
    monkeypatch.chdir(tmp_path)
    outside, image = (
        config_folder.settings().storage,
        config_folder.settings(ENTREPOT_IMAGE="1").storage,
    )

    assert (tmp_path / "data", tmp_path / "data/entrepot") == (
        outside.rootdirectory,
        outside.statedir,
    )
    assert Path("/var/lib/registry") == image.rootdirectory
    assert Path("/var/lib/registry/entrepot") == image.statedir
    assert Path("/fast") == config_folder.settings(ENTREPOT_STATEDIR="/fast").storage.statedir


@pytest.mark.parametrize("name", ["REGISTRYDIR", "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY"])
def test_the_data_directory_has_two_names(config_folder: ConfigFolder, name: str) -> None:
    """The data directory has two variables: a short name and that of docker distribution."""
    storage = config_folder.settings(**{name: "/srv/images"}).storage

    assert Path("/srv/images") == storage.rootdirectory
    assert Path("/srv/images/entrepot") == storage.statedir


def test_a_secret_at_the_usual_place_is_read(config_folder: ConfigFolder) -> None:
    """A pull secret at the usual place is read without a setting."""
    config_folder.places.secret.write_text("{}", encoding="utf-8")
    loaded = config_folder.examine()

    assert config_folder.places.secret == loaded.settings.pullsecret.path
    assert loaded.origin(("pullsecret", "path")) == "found"
    assert Path("/x") == config_folder.settings(PULLSECRETPATH="/x").pullsecret.path


def test_a_certificate_at_the_usual_place_is_used(config_folder: ConfigFolder) -> None:
    """A certificate at the usual place is used, and the default port becomes 8443."""
    config_folder.places.certs.mkdir()
    certificate = config_folder.places.certs / "certs.pem"
    certificate.write_text("", encoding="utf-8")
    http = config_folder.settings().http

    assert (certificate, ":8443") == (http.tls.certificate, str(http.addr))


def test_a_folder_of_certificates_without_certs_pem_is_a_problem(
    config_folder: ConfigFolder,
) -> None:
    """A folder of certificates without certs.pem is a problem: the operator expects TLS.

    Hidden files in the folder of certificates are ignored.
    """
    config_folder.places.certs.mkdir()
    (config_folder.places.certs / "..data").write_text("", encoding="utf-8")
    assert config_folder.problems() == []

    (config_folder.places.certs / "tls.crt").write_text("", encoding="utf-8")
    remedy = "name it certs/certs.pem, or set http.tls.certificate"
    assert [f"certs: the folder has no certs.pem; {remedy}"] == config_folder.problems()
    assert (
        config_folder.problems(f"--http.tls.certificate={config_folder.places.certs}/tls.crt") == []
    )


def test_in_the_image_an_empty_folder_of_certificates_is_a_problem(
    config_folder: ConfigFolder,
) -> None:
    """In the image, an empty folder of certificates is a problem.

    The image has no such folder, so the operator has mounted it and wants TLS.

    Without that folder, or with an empty http.tls.certificate, plain HTTP is intended.
    """
    assert config_folder.problems(ENTREPOT_IMAGE="1") == []

    config_folder.places.certs.mkdir()
    remedy = "name it certs/certs.pem, or set http.tls.certificate"
    assert [f"certs: the folder has no certs.pem; {remedy}"] == config_folder.problems(
        ENTREPOT_IMAGE="1"
    )
    assert config_folder.problems(ENTREPOT_IMAGE="1", REGISTRY_HTTP_TLS_CERTIFICATE="") == []


def test_an_unreadable_folder_of_certificates_is_a_problem(config_folder: ConfigFolder) -> None:
    """An unreadable folder of certificates is a problem: plain HTTP may be unintended."""
    config_folder.places.certs.write_text("", encoding="utf-8")
    remedy = "make it readable, or set http.tls.certificate"

    assert [f"certs: not a directory; {remedy}"] == config_folder.problems()


def test_a_folder_with_only_upstream_authorities_is_valid(config_folder: ConfigFolder) -> None:
    """A folder with only a certificate authority of an upstream (`ca`) is valid."""
    config_folder.places.certs.mkdir()
    authority = config_folder.places.certs / "corp.pem"
    authority.write_text("", encoding="utf-8")

    assert config_folder.problems(f"--upstreams.a.io.ca={authority}") == []


def test_there_is_one_worker_per_core_from_2_to_16(
    config_folder: ConfigFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default is one worker per core, from 2 to 16.

    With two workers, one busy worker does not block all clients. haproxy.cfg has only sixteen
    workers.
    """

    def workers(cores: int) -> int:
        monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)))
        return config_folder.settings().http.workers

    assert [workers(cores) for cores in (1, 2, 6, 64)] == [2, 2, 6, 16]
