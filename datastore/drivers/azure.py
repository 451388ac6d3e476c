"""Translate docker distribution's keys of `storage.azure` to the options of obstore's `AzureStore`.

obstore also reads environment variables whose names begin with `AZURE_`. If this module sets an
option, obstore ignores the variable for that option.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

from obstore.store import AzureStore

from entrepot.datastore.drivers.objects.client import Bucket
from entrepot.datastore.drivers.objects.object_service import ObjectService
from entrepot.datastore.drivers.objects.tls import content, tls_options

_ROLE: Final = "the role Storage Blob Data Contributor"
_AZURE: Final = ObjectService(
    store=AzureStore,
    permissions=dict.fromkeys(("list", "put", "get", "conditional put", "delete"), _ROLE),
    remedies={
        "ContainerNotFound": "create the container, or correct storage.azure.container",
        "InvalidResourceName": "correct storage.azure.container",
        "OutOfRangeInput": "correct storage.azure.container",
        "KeyBasedAuthenticationNotPermitted": "the account accepts no keys: set"
        " storage.azure.credentials",
        "AuthenticationFailed": "correct storage.azure.accountkey, or set the clock of this"
        " machine",
        "unauthorized_client": "correct storage.azure.credentials.clientid and tenantid",
        "invalid_client": "correct storage.azure.credentials.clientid and secret, or the variables"
        " AZURE_CLIENT_ID and AZURE_CLIENT_SECRET",
        "invalid_request": "correct storage.azure.credentials.tenantid",
        "AuthorizationFailure": "correct storage.azure.accountkey, or allow the address of this"
        " machine in the account's firewall",
        "AccountIsDisabled": "enable the storage account",
    },
    place="the container (docs/storage.md, azure)",
    metrics_name="azure",
    copies_at_once=False,
    had_slash=True,
)
_TOKENS: Final = {
    "core.chinacloudapi.cn": "https://login.chinacloudapi.cn",
    "core.usgovcloudapi.net": "https://login.microsoftonline.us",
}
"""This map contains the URL that issues tokens for the domain of each non-public Azure cloud."""


_SAS_VERSION: Final = "2021-08-06"


def bucket_of(parameters: Mapping[str, Any]) -> Bucket:
    """Return the container that the keys of `storage.azure` select.

    Raises: StorageBroken if the file of `ca` or of a federated token cannot be read.
    """
    realm, url = parameters["realm"], _url(parameters)
    config: dict[str, Any] = {
        "account_name": parameters["accountname"],
        "endpoint": url,
        "use_emulator": False,
        "skip_signature": False,
        **_login(parameters, os.environ),
    }
    if realm in _TOKENS and "AZURE_AUTHORITY_HOST" not in os.environ:
        config["authority_host"] = _TOKENS[realm]
    client: dict[str, Any] = {"allow_http": url.startswith("http:"), **tls_options(parameters)}
    return Bucket(
        service=_AZURE,
        name=parameters["container"],
        prefix=_prefix(parameters),
        config=config,
        client=client,
        attributes={},
    )


def signer_of(
    parameters: Mapping[str, Any], endpoint: str | None, clock: Callable[[], float] = time.time
) -> Callable[[str, int], str]:
    """Return a function that takes a key and a lifetime in seconds, and returns a signed URL.

    The function sends no request. The URL is a service SAS (a shared access signature) for one
    blob, signed with the account's key. The URL begins with *endpoint*, or with the URL of the
    service if *endpoint* is None.

    The URL has no start time. A URL that obstore signs is valid from the time of this machine on,
    so a service whose clock is slow would refuse it.
    """
    base, account = (endpoint or _url(parameters)).rstrip("/"), parameters["accountname"]
    secret = base64.b64decode(parameters["accountkey"])
    folder = "/".join(filter(None, (parameters["container"], _prefix(parameters))))

    def sign(key: str, seconds: int) -> str:
        fields = {
            "sp": "r",
            "se": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(clock() + seconds)),
            "spr": "https" if base.startswith("https:") else "https,http",
            "sv": _SAS_VERSION,
            "sr": "b",
        }
        # The signed text has these fields, in this order: permission, start, expiry, resource,
        # identifier, address, protocol, version, kind. Seven empty fields follow.
        # Source: https://learn.microsoft.com/en-us/rest/api/storageservices/create-service-sas
        resource = f"/blob/{account}/{folder}/{key}"
        head = (fields["sp"], "", fields["se"], resource, "", "", fields["spr"], fields["sv"])
        text = "\n".join((*head, fields["sr"], *[""] * 7))
        mac = hmac.new(secret, text.encode(), hashlib.sha256).digest()
        query = urlencode({**fields, "sig": base64.b64encode(mac).decode()})
        return f"{base}/{quote(f'{folder}/{key}')}?{query}"

    return sign


def _url(parameters: Mapping[str, Any]) -> str:
    account, realm = parameters["accountname"], parameters["realm"]
    return str(parameters["serviceurl"] or f"https://{account}.blob.{realm}")


def _prefix(parameters: Mapping[str, Any]) -> str:
    return str(parameters["rootdirectory"] or "").strip("/")


def _login(parameters: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    given = parameters["credentials"]
    if given["type"] == "shared_key":
        return {"credential_type": "access_key", "account_key": parameters["accountkey"]}
    if given["type"] == "client_secret":
        return {
            "credential_type": "client_secret",
            "client_id": given["clientid"],
            "tenant_id": given["tenantid"],
            "client_secret": given["secret"],
        }
    chosen = default_credentials(environ)
    if chosen == "workload_identity":
        content(Path(environ["AZURE_FEDERATED_TOKEN_FILE"]))  # checks that the file is readable
    return {"credential_type": chosen}


def default_credentials(environ: Mapping[str, str]) -> str:
    """Return the type of credentials that Azure's environment variables select.

    The order is that of `DefaultAzureCredential` in Azure's SDKs: a client secret, a federated
    token, then the managed identity of the machine.
    """
    if environ.get("AZURE_CLIENT_ID") and environ.get("AZURE_TENANT_ID"):
        if environ.get("AZURE_CLIENT_SECRET"):
            return "client_secret"
        if environ.get("AZURE_FEDERATED_TOKEN_FILE"):
            return "workload_identity"
    return "managed_identity"
