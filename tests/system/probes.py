"""Sends requests to docker distribution and to the appliance, which have equal configurations."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from string import Template

from entrepot.datastore.refs import Digest
from tests.images import Image
from tests.ports import free_port
from tests.system import processes
from tests.system.appliance import Appliance, Setup
from tests.system.http_client import HttpClient, Response
from tests.system.waiting import eventually

CONFIGURATIONS = Path(__file__).resolve().parents[1] / "configurations"

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ALWAYS = (
    "allow",
    "docker-content-digest",
    "docker-distribution-api-version",
    "link",
    "location",
    "range",
    "www-authenticate",
)


@dataclass(frozen=True, slots=True)
class Site:
    """A running registry: clients of its API and of its debug address, and its URL path prefix."""

    http: HttpClient
    debug: HttpClient
    prefix: str = ""

    def push(self, name: str, tag: str, image: Image) -> None:
        """Push *image*; the Location headers of the registry can be absolute or relative URLs."""
        for blob in image.blobs:
            begun = self.http.request("POST", f"{self.prefix}/v2/{name}/blobs/uploads/")
            assert begun.status == 202, begun
            path = self.prefix + "/v2/" + begun.headers["location"].partition("/v2/")[2]
            sign = "&" if "?" in path else "?"
            done = self.http.request("PUT", f"{path}{sign}digest={Digest.of(blob)}", body=blob)
            assert done.status == 201, done
        where = f"{self.prefix}/v2/{name}/manifests/{tag}"
        headers = {"Content-Type": image.media_type}
        assert self.http.request("PUT", where, body=image.manifest, headers=headers).status == 201


@dataclass(frozen=True, slots=True)
class Probe:
    """A request that a test sends to docker distribution and to the appliance.

    A path that begins with `debug:` is a path at the debug address.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    anonymous: bool = False

    @property
    def name(self) -> str:
        """Return the request in the form in which docs/migration.md lists it."""
        path = _DIGEST.sub("DIGEST", self.path.replace("team/app", "NAME")).replace("//", "/")
        who = " without a password" if self.anonymous else ""
        sent = "".join(f", {each}" for each in self.headers if each != "Accept")
        return f"{self.method} {path}{who}{sent}"

    def send(self, site: Site) -> Response:
        """Send the request to *site*, and return the response."""
        if self.path.startswith("debug:"):
            return _response(site.debug, self.method, self.path.removeprefix("debug:"), {})
        http = replace(site.http, login=None) if self.anonymous else site.http
        path = "/" if self.path == "/" else f"{site.prefix}{self.path}"
        return _response(http, self.method, path, self.headers)


def _response(http: HttpClient, method: str, path: str, headers: Mapping[str, str]) -> Response:
    """Send a request; join the values of a header that the response repeats (RFC 9110, 5.3)."""
    with http.open(method, path, headers=headers) as received:
        found: dict[str, str] = {}
        for name, value in received.getheaders():
            lower = name.lower()
            found[lower] = f"{found[lower]}, {value}" if lower in found else value
        return Response(received.status, found, received.read())


def shown(response: Response, site: Site, configured: Mapping[str, object]) -> dict[str, object]:
    """Return the parts of a response on which clients depend, without dates and random values."""
    own = {each.lower() for each in configured}
    headers = {name: _stable(value, site) for name, value in response.headers.items()}
    found: dict[str, object] = {name: headers[name] for name in _ALWAYS if name in headers}
    found["http.headers"] = {name: headers[name] for name in sorted(own & headers.keys())}
    return found | {"status": response.status, "body": _body(response)}


def _stable(value: str, site: Site) -> str:
    text = _UUID.sub("UUID", value.replace(site.http.netloc, "HOST"))
    return re.sub(r"\?_state=[^&]*", "", text)


def _body(response: Response) -> object:
    try:
        found = json.loads(response.body)
    except ValueError:
        return "text" if response.body else ""
    if isinstance(found, dict) and "errors" in found:
        return [each["code"] for each in found["errors"]]
    if isinstance(found, dict) and "registry" in found:
        return {"proxy": found["registry"]["proxy"], "has memory": "Alloc" in found["memstats"]}
    return found


class Configuration:
    """A file of `tests/configurations`, with the ports and paths of one registry filled in."""

    def __init__(self, name: str, folder: Path, prepare: Callable[[Path], None]) -> None:
        folder.mkdir(parents=True)
        prepare(folder)
        self.folder = folder
        self.port, self.debug_port = free_port(), free_port()
        text = (CONFIGURATIONS / f"{name}.yml").read_text()
        self.file = folder / "config.yml"
        self.file.write_text(
            Template(text).substitute(
                FOLDER=folder, DATA=folder / "data", PORT=self.port, DEBUG_PORT=self.debug_port
            )
        )

    def site(self, tls: ssl.SSLContext | None, login: str | None, prefix: str) -> Site:
        """Return the clients of the registry that runs with this configuration."""
        unix = self.folder / "registry.sock" if "net: unix" in self.file.read_text() else None
        http = HttpClient(self.port, "localhost", login=login, tls=tls, unix=unix)
        return Site(http, HttpClient(self.debug_port), prefix)


@contextmanager
def theirs(configuration: Configuration, site: Site) -> Iterator[None]:
    """Run Debian's docker-registry (docker distribution) with *configuration*."""
    with (configuration.folder / "log").open("ab") as log:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(configuration.file)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=processes.clean_environment({}),
        )
    try:
        eventually(lambda: _answers(site), what=f"docker-registry, see {configuration.folder}/log")
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def ours(configuration: Configuration, site: Site) -> Iterator[Appliance]:
    """Run the appliance with *configuration*."""
    setup = Setup(
        environment={"REGISTRY_HTTP_ADDR": "", "REGISTRYDIR": ""},
        data=configuration.folder / "data",
    )
    appliance = Appliance(configuration.folder / "appliance", setup)
    appliance.http = replace(site.http, login=None)
    appliance.file = configuration.file
    with appliance:
        yield appliance


def _answers(site: Site) -> bool:
    try:
        return site.http.get("/").status == 200
    except OSError:
        return False
