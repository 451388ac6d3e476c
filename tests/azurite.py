"""Run Azurite, Microsoft's emulator of Azure Storage, which checks signatures as Azure does.

`make soak` installs Azurite with npm into the virtual environment.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import subprocess
import sys
from email.utils import formatdate
from pathlib import Path
from typing import Final, Self

from tests.azure_storage import ACCOUNT, KEY
from tests.ports import free_port
from tests.system.http_client import listens
from tests.system.waiting import eventually

_MAIN: Final = "azurite/node_modules/azurite/dist/src/blob/main.js"
_VERSION: Final = "2021-08-06"


class Azurite:
    """A running Azurite with the empty container `images`; its files are below *folder*."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.port = port or free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return the URL of the account, for `storage.azure.serviceurl`."""
        return f"http://127.0.0.1:{self.port}/{ACCOUNT}"

    def __enter__(self) -> Self:
        main = Path(sys.prefix) / _MAIN
        assert main.is_file(), f"{main} is missing: make soak installs it"
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "azurite.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *("node", main, "--blobHost", "127.0.0.1", "--blobPort", str(self.port)),
                    *("--location", self._folder / "data", "--silent", "--disableTelemetry"),
                    "--skipApiVersionCheck",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        eventually(lambda: listens(self.port), what="Azurite accepts connections", within=60)
        assert self.request("PUT", "/images", "restype:container") == 201
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(timeout=60)

    def request(self, method: str, path: str, *parameters: str, **headers: str) -> int:
        """Send a request without a body, signed with the account's key; return the status.

        A parameter of the query is written as `name:value`, and `_` in a header stands for `-`.
        """
        sent = {
            "x-ms-date": formatdate(usegmt=True),
            "x-ms-version": _VERSION,
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        canonical = [f"{name}:{sent[name]}" for name in sorted(sent)]
        resource = "\n".join([f"/{ACCOUNT}/{ACCOUNT}{path}", *sorted(parameters)])
        text = "\n".join([method, *[""] * 11, *canonical, resource])
        mac = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256)
        signature = base64.b64encode(mac.digest()).decode()
        query = "&".join(each.replace(":", "=") for each in parameters)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(
            method,
            f"/{ACCOUNT}{path}?{query}",
            headers={
                **sent,
                "Content-Length": "0",
                "Authorization": f"SharedKey {ACCOUNT}:{signature}",
            },
        )
        status = connection.getresponse().status
        connection.close()
        return status
