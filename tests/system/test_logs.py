"""The logs of a whole appliance: access lines on stdout, the operator's fields, and mails."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.smtp_server import SmtpServer
from tests.system.appliance import Appliance, Setup
from tests.system.conftest import Start
from tests.system.http_client import HttpClient
from tests.system.images import KB, of_size
from tests.system.pulls import manifest_path, pull
from tests.system.registries import Registry
from tests.system.waiting import eventually
from tests.upstream import FakeUpstream

# printed by: htpasswd -nbB -C 4 ann right
_USERS = {"ann": "$2b$04$UDITLP0NXSoxSGu2VTyF7OOvB0O6Ellsn8MCAgTk36TkRHT2FH1Uy"}
_LOGIN = {"Authorization": "Basic " + base64.b64encode(b"ann:right").decode()}
_LINE = re.compile(
    r'(?P<source>\S+) - (?P<user>\S+) \[(?P<time>[^]]+)\] "(?P<request>.*?)" (?P<status>\d+) \d+'
    r' (?P<rest>".*" ".*")'
)
_FIELDS = ' n=5 service="a b"'


@pytest.fixture(scope="module")
def server() -> Iterator[SmtpServer]:
    """Run a mail server."""
    with SmtpServer() as server:
        yield server


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    """Run an upstream."""
    with FakeUpstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def appliance(
    tmp_path_factory: pytest.TempPathFactory, server: SmtpServer, upstream: FakeUpstream
) -> Iterator[Appliance]:
    """Run an appliance that prints access lines, logs the operator's fields, and mails warnings."""
    options = {"smtp": {"addr": f"127.0.0.1:{server.port}"}, "from": "a@b.test", "to": ["c@d.test"]}
    log = {
        "level": "debug",
        "accesslog": {"disabled": False},
        "fields": {"service": "a b", "n": 5},
        "hooks": [{"type": "mail", "levels": ["warn"], "options": options}],
    }
    settings = {"log": log, "auth": {"htpasswd": {"users": _USERS}}}
    setup = Setup({"one.test": {"url": upstream.url}}, settings)
    with Appliance(tmp_path_factory.mktemp("logs"), setup) as appliance:
        yield appliance


def _printed(appliance: Appliance, text: str, count: int = 1) -> list[str]:
    """Wait until stdout has *count* access lines with *text*, and return them."""

    def found() -> list[str]:
        lines = [each for each in appliance.output().splitlines() if _LINE.fullmatch(each)]
        return [each for each in lines if text in each]

    return eventually(lambda: found()[count - 1 :] and found(), what=f"lines with {text}")


def test_the_second_of_two_equal_answers_is_printed_too(
    appliance: Appliance, upstream: FakeUpstream
) -> None:
    """The second of two equal requests is printed too, although HAProxy's cache responds to it."""
    upstream.put_image("app", "v1", of_size(KB, 970))
    pull(replace(appliance.http, login="ann:right"), "one.test/app", "v1")
    path = manifest_path("one.test/app", "v1")
    asked = 1

    def is_from_memory() -> bool:
        nonlocal asked
        answer = appliance.http.get(path, **_LOGIN, User_Agent="te st")
        asked += 1
        return "detail=memory" in answer.headers["cache-status"]

    eventually(is_from_memory, what="HAProxy's cache responds", pause=0.2)

    lines = _printed(appliance, path, asked)
    assert len(lines) == asked
    for line in lines:
        found = _LINE.fullmatch(line)
        assert found is not None
        assert (found["source"], found["user"], found["status"]) == ("127.0.0.1", "ann", "200")
        assert found["request"] == f"GET {path} HTTP/1.1"
    assert lines[-1].endswith(' "" "te st"')


def test_health_checks_are_not_printed(appliance: Appliance) -> None:
    """Health checks of the image and of Kubernetes are not printed in the access log."""
    appliance.http.get("/healthz")
    appliance.http.get("/v2/after/health", **_LOGIN)
    _printed(appliance, "/v2/after/health")

    assert "healthz" not in appliance.output()


def test_a_client_cannot_write_a_line_of_its_own(appliance: Appliance) -> None:
    """A client cannot forge an access line, because control characters of requests are escaped."""
    forged = 'x" 200 1\x0b "" "\\'
    appliance.http.get("/v2/forged/tags/list?n=%22%0A", **_LOGIN, User_Agent=forged)

    (line,) = _printed(appliance, "/v2/forged/")
    assert line.endswith(r' "" "x\" 200 1\v \"\" \"\\"')
    (written,) = [
        each
        for each in (appliance.state / "log/access.log").read_bytes().splitlines()
        if b"forged" in each
    ]
    assert b"agent" not in written


def test_the_lines_of_all_programs_have_the_fields(appliance: Appliance) -> None:
    """The lines of `serve`, the workers, the logger and the cleaner have the operator's fields."""
    programs = ("serve", "registry", "logger", "cleaner")

    def found() -> bool:
        lines = appliance.output().splitlines()
        ours = [each for each in lines if re.match(r"\S+Z (debug|info|warn|error) \w+: ", each)]
        assert [each for each in ours if _FIELDS not in each] == []
        return {each.split()[2] for each in ours} >= {f"{name}:" for name in programs}

    appliance.http.get("/v2/", Authorization="Basic " + base64.b64encode(b"ann:no").decode())
    eventually(found, what="each program has a line")


def test_a_warning_of_a_worker_is_mailed(appliance: Appliance, server: SmtpServer) -> None:
    """`serve` sends a mail with the warning of a worker about a failed login."""
    appliance.http.get("/v2/", Authorization="Basic " + base64.b64encode(b"bob:no").decode())

    def found() -> bool:
        mails = [each for each in server.mails if "user: bob" in each.get_content()]
        return [each["Subject"] for each in mails] == ["[warning] 127.0.0.1: login failed"]

    eventually(found, what="a mail reports the failed login")


def test_a_line_is_that_of_docker_distribution(
    start: Start, public: Registry, fake: FakeUpstream
) -> None:
    """Printed access lines equal the lines of docker distribution, except for times and sizes."""
    appliance = start(
        Setup({"one.test": {"url": fake.url}}, {"log": {"accesslog": {"disabled": False}}})
    )
    requests = [
        ("GET", "/v2/", {}),
        ("HEAD", "/v2/logs/a/manifests/none", {"User-Agent": "a b"}),
        ("GET", "/v2/logs/a/tags/list?n=1", {"Referer": 'http://x/"', "User-Agent": 'a"b\\c\t'}),
        ("GET", "/v2/logs/a/blobs/sha256:" + "0" * 64, {"User-Agent": "caf\u00c3\u00a9"}),
        ("POST", "/v2/logs/a/blobs/uploads/", {"Content-Length": "0", "User-Agent": "x"}),
    ]

    def lines(http: HttpClient, output: Path) -> list[str]:
        for method, path, headers in requests:
            http.request(method, path, headers=headers)

        def found() -> list[str]:
            printed = map(_LINE.fullmatch, output.read_text().splitlines())
            matches = [each for each in printed if each is not None]
            return [re.sub(r"\[.*?\]|(?<= )\d+(?= \")", "*", each[0]) for each in matches]

        return eventually(lambda: found()[len(requests) - 1 :] and found(), what="all lines")

    theirs = lines(public.http, public.log)[-len(requests) :]
    assert lines(appliance.http, appliance.log) == theirs


def test_a_stdout_that_no_program_reads_delays_nothing(tmp_path: Path, fake: FakeUpstream) -> None:
    """If no program reads stdout, access lines are lost, but requests and the stop do not wait."""
    folder = tmp_path / "stuck"
    folder.mkdir()
    os.mkfifo(folder / "appliance.log")
    reader = os.open(folder / "appliance.log", os.O_RDWR | os.O_NONBLOCK)
    settings = {"log": {"accesslog": {"disabled": False, "formatter": "json"}}}
    setup = Setup({"one.test": {"url": fake.url}}, settings, {"ENTREPOT_WORKERS": "2"})
    sent = 1000
    with Appliance(folder, setup) as appliance:
        for number in range(sent):
            assert appliance.http.get(f"/v2/?{number}").status == 200
        log = appliance.state / "log/access.log"
        eventually(lambda: log.read_bytes().count(b'"uri":"/v2/?') == sent, what="all lines")
        assert appliance.stop() == 0
    printed = os.read(reader, 1024 * 1024).splitlines()
    os.close(reader)

    documents = [json.loads(each) for each in printed if each.startswith(b"{")]
    assert 0 < len(documents) < sent
    assert {each["message"] for each in documents} == {"response completed"}
    assert any(b"access log lines were not printed" in each for each in printed)
