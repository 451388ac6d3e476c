"""Translate docker distribution's keys of `storage.azure` to the options of obstore's `AzureStore`.

obstore also reads variables that begin with `AZURE_`. An option that this module sets precedes its
variable.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from obstore.store import AzureStore

from entrepot.datastore.drivers.objects.client import Bucket
from entrepot.datastore.drivers.objects.object_service import ObjectService
from entrepot.datastore.drivers.objects.tls import tls_options

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
        "invalid_client": "correct storage.azure.credentials.clientid and secret",
        "unauthorized_client": "correct storage.azure.credentials.clientid and tenantid",
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
"""The hosts that issue tokens in the clouds other than the public one."""


def bucket_of(parameters: Mapping[str, Any]) -> Bucket:
    """Return the container that the keys select. Raises: StorageBroken if a file cannot be read."""
    account, realm = parameters["accountname"], parameters["realm"]
    url = parameters["serviceurl"] or f"https://{account}.blob.{realm}"
    config: dict[str, Any] = {
        "account_name": account,
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
        prefix=str(parameters["rootdirectory"] or "").strip("/"),
        config=config,
        client=client,
        attributes={},
    )


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
    return {"credential_type": default_credentials(environ)}


def default_credentials(environ: Mapping[str, str]) -> str:
    """Return which login the variables of Azure select, in the order of `DefaultAzureCredential`.

    That class of Azure's SDKs then asks the managed identity of the machine.
    """
    if environ.get("AZURE_CLIENT_ID") and environ.get("AZURE_TENANT_ID"):
        if environ.get("AZURE_CLIENT_SECRET"):
            return "client_secret"
        if environ.get("AZURE_FEDERATED_TOKEN_FILE"):
            return "workload_identity"
    return "managed_identity"
