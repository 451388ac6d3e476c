"""Flags over environment over YAML over what is found over defaults; every problem at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.config.desk import Desk


def test_flags_win_over_environment_over_file_over_defaults(desk: Desk) -> None:
    """Four settings, each said in one place more."""
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


def test_every_value_remembers_where_it_came_from(desk: Desk) -> None:
    """What `entrepot check` prints."""
    desk.write("\nlog:\n  level: debug\n")
    loaded = desk.examine("--cleaner.ttl=1h", CLEANER_MAXSIZE="1G")

    assert f"{desk.file}:3" == loaded.origin(("log", "level"))
    assert loaded.origin(("cleaner", "maxsize")) == "CLEANER_MAXSIZE"
    assert loaded.origin(("cleaner", "ttl")) == "--cleaner.ttl"
    assert loaded.origin(("log", "formatter")) == "default"


def test_a_section_in_the_environment_is_merged_into_the_file(desk: Desk) -> None:
    """REGISTRY_A holds YAML; what it does not say stays."""
    desk.write("upstreams: {quay.io: {freshness: 1m, ongone: serve}}")
    quay = desk.settings(REGISTRY_UPSTREAMS="{quay.io: {freshness: 2m}, ghcr.io: }").upstreams

    assert {"quay.io", "ghcr.io"} == quay.keys()
    assert (quay["quay.io"].freshness, quay["quay.io"].ongone) == (120.0, "serve")


def test_settings_cannot_be_changed(desk: Desk) -> None:
    """Every part of the appliance sees the same."""
    with pytest.raises(ValueError, match="frozen"):
        desk.settings().cleaner.ttl = 1.0


# ---- what depends on where we run


@pytest.mark.parametrize(
    ("environ", "certificate", "expected"),
    [
        ({}, False, "127.0.0.1:5000"),
        ({"ENTREPOT_IMAGE": "1"}, False, ":5000"),
        ({}, True, ":8443"),
        ({"ENTREPOT_IMAGE": "1"}, True, ":8443"),
        ({"REGISTRY_HTTP_ADDR": ":1"}, True, ":1"),
    ],
    ids=["outside", "image", "outside, TLS", "image, TLS", "said"],
)
def test_the_address_depends_on_where_we_run(
    desk: Desk, environ: Mapping[str, str], expected: str, *, certificate: bool
) -> None:
    """Who tries it is not open to his network; who has a certificate means it."""
    argv = ["--http.tls.certificate=/c.pem"] if certificate else []

    assert expected == str(desk.settings(*argv, **environ).http.addr)


def test_the_data_lies_where_the_image_or_the_clone_has_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The index and the logs lie beside it, unless said otherwise."""
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
    """The short one and distribution's."""
    storage = desk.settings(**{name: "/srv/images"}).storage

    assert Path("/srv/images") == storage.rootdirectory
    assert Path("/srv/images/entrepot") == storage.statedir


def test_a_secret_that_lies_in_its_place_is_taken(desk: Desk) -> None:
    """One secret to mount, and nothing to set."""
    desk.places.secret.write_text("{}", encoding="utf-8")
    loaded = desk.examine()

    assert desk.places.secret == loaded.settings.pullsecret.path
    assert loaded.origin(("pullsecret", "path")) == "found"
    assert Path("/x") == desk.settings(PULLSECRETPATH="/x").pullsecret.path


def test_a_certificate_that_lies_in_its_place_is_taken(desk: Desk) -> None:
    """And the address becomes that of TLS."""
    desk.places.certs.mkdir()
    certificate = desk.places.certs / "certs.pem"
    certificate.write_text("", encoding="utf-8")
    http = desk.settings().http

    assert (certificate, ":8443") == (http.tls.certificate, str(http.addr))


def test_a_folder_of_certificates_without_the_one_is_an_error(desk: Desk) -> None:
    """Who mounts it does not want plain HTTP. What a mount brings along is passed over."""
    desk.places.certs.mkdir()
    (desk.places.certs / "..data").write_text("", encoding="utf-8")
    assert desk.problems() == []

    (desk.places.certs / "tls.crt").write_text("", encoding="utf-8")
    remedy = "name it certs/certs.pem, or set http.tls.certificate"
    assert [f"certs: no certs.pem in it; {remedy}"] == desk.problems()
    assert desk.problems(f"--http.tls.certificate={desk.places.certs}/tls.crt") == []


def test_in_the_image_an_empty_folder_of_certificates_is_an_error(desk: Desk) -> None:
    """There it was mounted; who mounts nothing, or says that there is none, gets plain HTTP."""
    assert desk.problems(ENTREPOT_IMAGE="1") == []

    desk.places.certs.mkdir()
    remedy = "name it certs/certs.pem, or set http.tls.certificate"
    assert [f"certs: no certs.pem in it; {remedy}"] == desk.problems(ENTREPOT_IMAGE="1")
    assert desk.problems(ENTREPOT_IMAGE="1", REGISTRY_HTTP_TLS_CERTIFICATE="") == []


def test_certificates_that_can_not_be_listed_are_an_error(desk: Desk) -> None:
    """Whether there is one is unknown, and nobody wants plain HTTP by accident."""
    desk.places.certs.write_text("", encoding="utf-8")
    remedy = "let it be read, or set http.tls.certificate"

    assert [f"certs: not a directory; {remedy}"] == desk.problems()


def test_a_folder_of_upstream_authorities_is_no_error(desk: Desk) -> None:
    """An upstream's `ca` may lie there alone."""
    desk.places.certs.mkdir()
    authority = desk.places.certs / "corp.pem"
    authority.write_text("", encoding="utf-8")

    assert desk.problems(f"--upstreams.a.io.ca={authority}") == []


def test_workers_are_one_a_core_and_at_least_two(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is busy must not stop all, and HAProxy knows sixteen."""

    def workers(cores: int) -> int:
        monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)))
        return desk.settings().http.workers

    assert [workers(cores) for cores in (1, 2, 6, 64)] == [2, 2, 6, 16]
