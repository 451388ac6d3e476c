"""Test the environment variables of haproxy.cfg and supervisord.conf."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from entrepot.appliance.supervise import log_mover
from entrepot.appliance.supervise.environment import (
    WORKER_THREADS,
    Start,
    file_share,
    inherited,
    log_share,
    variables,
    worker_slots,
)
from entrepot.appliance.supervise.shipped_files import shipped
from entrepot.config.http_settings import HttpSettings
from entrepot.config.limits import LimitsSettings
from entrepot.config.schema import Settings
from entrepot.datastore.budget import Budget
from entrepot.registry.__main__ import _connection_limits
from entrepot.registry.server import gunicorn_app
from entrepot.registry.server.polled import ConnectionLimits
from entrepot.runtime import outbound

START = Start(Path("/r"), Path("/r/settings.json"), "127.0.0.1:5000", None, files=20000)


@pytest.mark.parametrize("name", ["haproxy.cfg", "supervisord.conf"])
def test_every_variable_in_the_files_has_a_value(name: str) -> None:
    """Each variable of haproxy.cfg and supervisord.conf has a value.

    HAProxy reads a missing variable as an empty text; supervisord does not start if one is missing.
    Variables that haproxy.cfg sets or unsets itself need no value.
    """
    text = shipped(name).read_text()
    names = re.findall(r"\$\{(ENTREPOT_\w+)(?:\[\*\])?\}|%\(ENV_(\w+)\)s", text)
    preset = set(re.findall(r"(?:preset|unset|set)env (ENTREPOT_\w+)", text))
    guarded = {
        name
        for found in re.findall(r"\.if defined\((ENTREPOT_\w+)\)", text)
        for name in (found, f"{found}_VALUE")
    }

    given = variables(Settings(), START).keys() | preset | guarded
    assert {first or second for first, second in names} <= given


def test_no_variable_is_empty() -> None:
    """No variable of haproxy.cfg is empty.

    HAProxy 3.2 warns about an empty argument, and 3.3.0 exits, even if the argument is optional.
    """
    assert all(variables(Settings(), START).values())


def test_the_configured_number_of_workers_is_enabled() -> None:
    """Servers of haproxy.cfg beyond the configured number of workers are disabled."""
    environment = variables(Settings(http=HttpSettings(workers=3)), START)
    states = [environment[f"ENTREPOT_WORKER{number}"] for number in range(1, 17)]

    assert states == ["enabled"] * 3 + ["disabled"] * 13


def test_haproxy_has_a_frontend_for_each_thread() -> None:
    """Each HAProxy thread after the first gets a frontend; with a unix socket, one thread runs."""
    by_tcp = variables(Settings(http=HttpSettings(threads=3)), START)
    unix = HttpSettings.from_tree({"net": "unix", "addr": "/run/r.sock", "threads": "3"})
    by_unix = variables(Settings(http=unix), START)
    names = [f"ENTREPOT_THREAD{number}" for number in range(2, 5)]

    assert by_tcp["ENTREPOT_THREADS"] == "3"
    assert [name in by_tcp for name in names] == [True, True, False]
    assert by_unix["ENTREPOT_THREADS"] == "1"
    assert not [name for name in names if name in by_unix]


@pytest.mark.parametrize(
    ("span", "milliseconds", "seconds"),
    [(0, "1", "1"), (0.25, "250", "2"), (4, "4000", "5"), (90, "90000", "91")],
)
def test_haproxy_has_the_configured_grace_and_supervisord_waits_longer(
    span: float, milliseconds: str, seconds: str
) -> None:
    """HAProxy drains connections for `http.draintimeout`, and supervisord waits longer."""
    environment = variables(Settings(http=HttpSettings(draintimeout=span)), START)

    assert environment["ENTREPOT_DRAIN_MS"] == milliseconds
    assert environment["ENTREPOT_STOP_S"] == seconds


def test_haproxy_looks_up_the_health_only_if_there_is_a_check() -> None:
    """HAProxy looks up the state of the checks for each request only if `health:` has a check."""
    checked = Settings.from_tree({"health": {"storagedriver": {"enabled": "true"}}})

    assert variables(Settings(), START)["ENTREPOT_HEALTH"] == "off"
    assert variables(checked, START)["ENTREPOT_HEALTH"] == "on"


def test_a_worker_has_spare_threads() -> None:
    """HAProxy queues requests before a worker is full, so that health checks get a thread."""
    assert WORKER_THREADS == gunicorn_app.THREADS
    assert int(variables(Settings(), START)["ENTREPOT_WORKER_MAXCONN"]) < gunicorn_app.THREADS


@pytest.mark.parametrize("files", [1024, 1025, 4096, 20000, 65536, 10**9])
@pytest.mark.parametrize("slots", [752, 16 * 752])
def test_haproxy_gets_a_pipe_for_each_body_within_its_limit_of_open_files(
    files: int, slots: int
) -> None:
    """HAProxy may open a pipe for each body that it forwards, within its limit of open files.

    Without a pipe for a body HAProxy loops at full CPU. HAProxy does not start if its configuration
    needs more open files than the limit allows.
    """
    share = file_share(files, slots)

    assert min(share.connections, slots) < share.pipes
    assert 2 * (share.connections + share.pipes) < min(files, 65536) - 100
    assert share.connections > files // 6 or files > 65536


@pytest.mark.parametrize("maxsize", [0, 200 * 1024**2, 10 * 1024**3, 1024**4])
def test_the_access_log_stays_within_its_share(maxsize: int) -> None:
    """All files of the access log together stay within the part of the cap that is for the log.

    The log mover checks the size of a file after each piece that it writes, so each file may be one
    piece longer.
    """
    budget = Budget(maxsize, 20)
    share = log_share(budget)

    assert (share.file_bytes + log_mover.PIECE) * (share.backups + 1) <= budget.log_bytes * 3 // 4
    assert share.backups >= 4


def test_variables_that_configure_the_appliance_are_not_inherited() -> None:
    """The programs of the appliance inherit no variable that configures the appliance.

    Programs read settings.json instead of variables, because `ps` would show a password in a
    variable.
    """
    given = {
        "PATH": "/bin",
        "HTTPS_PROXY": "http://proxy",
        "REGISTRY_PROXY_PASSWORD": "hush",
        "CLEANER_TTL": "1d",
        "ENTREPOT_WORKERS": "3",
        "REGISTRYDIR": "/data",
        "PULLSECRETPATH": "/secret",
    }

    assert inherited(given) == {"PATH": "/bin", "HTTPS_PROXY": "http://proxy"}


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("http://me:s3cret@proxy:3128", "http://proxy:3128"),
        ("me:s3cret@proxy:3128", "proxy:3128"),
        ("http://me:s3@cret@proxy", "http://proxy"),
        ("http://me:s3:/@cret@[::1]:3128/", "http://[::1]:3128/"),
        ("http://proxy", "http://proxy"),
    ],
)
def test_the_password_of_a_proxy_is_not_inherited(name: str, given: str, kept: str) -> None:
    """HAProxy, logger and cleaner inherit no proxy password.

    Those programs contact no upstream, and /proc shows the environment of a process.
    """
    assert inherited({name: given}) == {name: kept}


def test_users_of_docker_cache_server_are_not_inherited() -> None:
    """Programs do not inherit DCS_AUTH_USERS, which contains password hashes."""
    assert inherited({"DCS_AUTH_USERS": "me:$2y$10$x"}) == {}


def test_the_registry_gets_the_proxies_with_their_passwords(tmp_path: Path) -> None:
    """The registry reads the outbound proxies with their passwords from a file.

    Only the registry's user can read the file of proxies, which is in the run directory.
    """
    outbound.hand_over(
        {"HTTPS_PROXY": "http://me:s3cret@proxy", "no_proxy": "a.test, b.test"}, tmp_path
    )

    handed = outbound.handed_over(tmp_path)

    assert handed.proxies == {"https": "http://me:s3cret@proxy"}
    assert handed.exempt == ("a.test", "b.test")
    assert "s3cret" not in repr(handed)
    assert [each.stat().st_mode & 0o777 for each in tmp_path.iterdir()] == [0o600]


@pytest.mark.parametrize("files", [256, 1024, 4096, 20_000, 65_536])
def test_a_worker_has_descriptors_for_all_requests_that_it_accepts(files: int) -> None:
    """A worker has six file descriptors for each request that it accepts, and a reserve."""
    slots = worker_slots(files)

    assert 1 <= slots < gunicorn_app.THREADS
    assert 6 * slots < files
    assert slots == worker_slots(65_536) or files < 6 * gunicorn_app.THREADS + 200


def test_configured_limits_reach_haproxy_and_the_workers() -> None:
    """All values of the section `limits` reach HAProxy and the workers instead of the defaults."""
    limits = LimitsSettings(blobs=40, bodies=20, few=7, logins=9, minrate=5000)
    settings = Settings(limits=limits)
    environment = variables(settings, START)
    names = ("BLOB_MAXCONN", "UPLOAD_MAXCONN", "FEW", "GUESSES")

    assert [environment[f"ENTREPOT_{name}"] for name in names] == ["40", "20", "7", "9"]
    assert _connection_limits(settings) == ConnectionLimits(30, 15, 5000)
