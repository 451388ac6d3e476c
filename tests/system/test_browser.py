"""A web page such as docker-registry-ui can use the registry from a real Chromium."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from entrepot.datastore.refs import Digest
from tests.system.appliance import Appliance, Setup
from tests.system.browser import PageServer, visit
from tests.system.images import KB, of_size
from tests.system.pushes import push, tags
from tests.system.registries import htpasswd

ANN = "ann:sesame"
_IMAGE = of_size(KB, 940)
_DIGEST = str(_IMAGE.digest)
_CONFIG = str(Digest.of(_IMAGE.config))

# This script sends the same requests and headers as docker-registry-ui (src/scripts/http.js,
# docker-image.js, and the components for catalog, tag list and removal).
_SCRIPT = """
const MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json, '
    + 'application/vnd.oci.image.manifest.v1+json';

function send(method, url, headers = {}, credentials = 'omit') {
    return fetch(url, {method, headers, credentials}).then(
        async (response) => ({
            status: response.status,
            digest: response.headers.get('Docker-Content-Digest'),
            body: await response.text(),
        }),
        (error) => ({status: 0, error: String(error)}),
    );
}

async function use(base, login, wanted) {
    const own = login ? {Authorization: 'Basic ' + btoa(login)} : {};
    const wrong = login ? {Authorization: 'Basic eA=='} : {};
    const app = base + '/v2/team/app';
    const found = {};
    found.refused = await send('GET', app + '/tags/list', wrong);
    found.catalog = await send('GET', base + '/v2/_catalog?n=1000', own);
    found.tags = await send('GET', app + '/tags/list', own);
    found.manifest = await send('GET', app + '/manifests/v1', {...own, Accept: MANIFEST});
    found.config = await send('GET', app + '/blobs/' + wanted.config, {...own, Accept: MANIFEST});
    found.remove = await send('DELETE', app + '/manifests/' + wanted.digest, {
        ...own, Accept: MANIFEST, 'Cache-Control': 'no-store, no-cache',
    });
    return found;
}

async function report(name, found) {
    await fetch('/report/' + name, {method: 'POST', body: JSON.stringify(found)});
}
"""


def _page(body: str) -> str:
    return f"<!doctype html><title>test</title><script>{_SCRIPT}\n{body}</script>"


def _headers(origin: str) -> dict[str, list[str]]:
    """Return the response headers that the instructions of docker-registry-ui demand."""
    return {
        "X-Content-Type-Options": ["nosniff"],
        "Access-Control-Allow-Origin": [origin],
        "Access-Control-Allow-Methods": ["HEAD", "GET", "OPTIONS", "DELETE"],
        "Access-Control-Allow-Headers": ["Authorization", "Accept", "Cache-Control"],
        "Access-Control-Max-Age": ["1728000"],
        "Access-Control-Allow-Credentials": ["true"],
        "Access-Control-Expose-Headers": ["Docker-Content-Digest"],
    }


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Any]]:
    """Visit two pages, and yield the results that their scripts report.

    Each page uses an appliance with passwords and one without. The appliances do not permit the
    origin of the first page, but permit the origin of the second page.
    """
    with ExitStack() as stack:
        server = stack.enter_context(PageServer())
        ui = f"http://localhost:{server.port}"
        folder = tmp_path_factory.mktemp("browser")
        opened, closed = (
            stack.enter_context(_appliance(folder / name, ui, login=login))
            for name, login in (("open", None), ("closed", ANN))
        )
        for each in (opened, closed):
            assert push(each.http, "team/app", "v1", _IMAGE)
        uses = {"open": (opened.http.port, None), "closed": (closed.http.port, ANN)}
        wanted = json.dumps({"digest": _DIGEST, "config": _CONFIG})
        calls = [
            f"use('http://localhost:{port}', {json.dumps(login)}, {wanted})"
            f".then((found) => report('NAME-{name}', found));"
            for name, (port, login) in uses.items()
        ]
        script = "\n".join(calls)
        server.pages["/evil"] = _page(script.replace("NAME", "evil"))
        server.pages["/ui"] = _page(script.replace("NAME", "ui"))
        visit(server, f"http://127.0.0.1:{server.port}/evil", "evil-open", "evil-closed")
        before = [tags(each.http, "team/app") for each in (opened, closed)]
        visit(server, f"{ui}/ui", "ui-open", "ui-closed")
        after = [tags(each.http, "team/app") for each in (opened, closed)]
        yield {**server.reports, "before": before, "after": after}


def _appliance(folder: Path, origin: str, *, login: str | None) -> Appliance:
    settings: dict[str, Any] = {
        "http": {"headers": _headers(origin)},
        "storage": {"delete": {"enabled": True}},
    }
    if login is not None:
        folder.mkdir(parents=True)
        users = htpasswd(folder / "htpasswd", login)
        settings["auth"] = {"htpasswd": {"path": str(users), "realm": "test"}}
    appliance = Appliance(folder, Setup(settings=settings))
    appliance.http = replace(appliance.http, login=login)
    return appliance


@pytest.mark.parametrize("name", ["open", "closed"])
def test_a_page_lists_reads_and_removes_images(reports: Mapping[str, Any], name: str) -> None:
    """A page of the permitted origin can list, read and remove images.

    The page's script sends the requests of docker-registry-ui, and can read the responses.
    """
    found = reports[f"ui-{name}"]

    assert found["refused"]["status"] == (401 if name == "closed" else 200)
    assert json.loads(found["catalog"]["body"]) == {"repositories": ["team/app"]}
    assert json.loads(found["tags"]["body"])["tags"] == ["v1"]
    assert (found["manifest"]["status"], found["manifest"]["digest"]) == (200, _DIGEST)
    assert found["config"]["status"] == 200
    assert found["remove"]["status"] == 202
    assert reports["after"] == [[], []]


@pytest.mark.parametrize("name", ["open", "closed"])
def test_a_page_of_another_origin_reads_and_removes_nothing(
    reports: Mapping[str, Any], name: str
) -> None:
    """A page of another origin can read no response, and its DELETE has no effect."""
    assert {each["status"] for each in reports[f"evil-{name}"].values()} == {0}
    assert reports["before"] == [["v1"], ["v1"]]
