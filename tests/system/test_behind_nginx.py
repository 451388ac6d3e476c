"""nginx forwards requests to an appliance that listens on a unix socket with a path prefix."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.system import processes
from tests.system.appliance import Appliance, Setup
from tests.system.clients import Clients
from tests.system.http_client import HttpClient, listens
from tests.system.images import KB, of_size
from tests.system.pushes import as_folder, tags
from tests.system.waiting import eventually

_IMAGE = of_size(64 * KB, 960)
_NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u;
    scgi_temp_path {folder}/s;
    server {{
        listen 127.0.0.1:{port};
        client_max_body_size 0;
        location /v2/ {{
            proxy_pass http://unix:{socket}:/registry/v2/;
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_request_buffering off;
        }}
    }}
}}
"""


@contextmanager
def _nginx(folder: Path, port: int, socket: Path) -> Iterator[None]:
    program = shutil.which("nginx")
    if program is None:
        pytest.skip("nginx is needed: as root, sh appliance/packages.sh test")
    file = folder / "nginx.conf"
    file.write_text(_NGINX.format(folder=folder, port=port, socket=socket))
    running = subprocess.Popen(
        [program, "-c", str(file), "-e", str(folder / "error.log")],
        stdin=subprocess.DEVNULL,
        env=processes.clean_environment({}),
    )
    try:
        eventually(lambda: listens(port), what=f"nginx listens, see {folder}/error.log")
        yield
    finally:
        running.terminate()
        running.wait(timeout=10)


def test_clients_push_and_pull_through_nginx_and_a_socket_with_a_prefix(
    clients: Clients, tmp_path: Path
) -> None:
    """Clients push and pull through nginx.

    The upload URLs that the appliance returns begin with `http.host`, which is the URL of nginx.
    """
    with tempfile.TemporaryDirectory(prefix="ng-") as short:
        folder, port = Path(short), free_port()
        folder.chmod(0o755)
        socket = folder / "registry.sock"
        http = {
            "net": "unix",
            "addr": str(socket),
            "prefix": "/registry/",
            "host": f"http://localhost:{port}",
        }
        setup = Setup(
            settings={"http": http}, environment={"REGISTRY_HTTP_ADDR": "", "REGISTRYDIR": ""}
        )
        appliance = Appliance(tmp_path / "appliance", replace(setup, data=tmp_path / "data"))
        appliance.file.write_text(
            appliance.file.read_text()
            + f"storage: {{filesystem: {{rootdirectory: {tmp_path / 'data'}}}}}\n"
        )
        appliance.http = replace(appliance.http, unix=socket)
        with appliance, _nginx(folder, port, socket):
            socket.chmod(0o777)  # nginx's processes belong to another user
            pushed = clients.skopeo(
                "copy",
                "--dest-tls-verify=false",
                as_folder(_IMAGE, tmp_path / "image"),
                f"docker://localhost:{port}/team/app:v1",
            )
            assert pushed.returncode == 0, pushed.stderr
            assert clients.pull(f"localhost:{port}/team/app:v1")
            assert tags(HttpClient(port), "team/app") == ["v1"]
        assert not socket.exists()
