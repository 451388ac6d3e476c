"""Translate docker distribution's keys of `storage.s3` to the options of obstore's `S3Store`."""

from __future__ import annotations

import configparser
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from obstore.store import S3Store

from entrepot.datastore.drivers.objects.client import Bucket
from entrepot.datastore.drivers.objects.object_service import ObjectService
from entrepot.datastore.drivers.objects.tls import content, tls_options
from entrepot.datastore.errors import StorageBroken

_NO_CLASS: Final = {"STANDARD", "NONE"}
_AGAIN: Final = timedelta(minutes=5)
_FILE: Final = "AWS_SHARED_CREDENTIALS_FILE"
_S3: Final = ObjectService(
    store=S3Store,
    permissions={
        "list": "s3:ListBucket",
        "put": "s3:PutObject",
        "get": "s3:GetObject",
        "conditional put": "s3:PutObject",
        "delete": "s3:DeleteObject",
    },
    remedies={
        "NoSuchBucket": "create the bucket, or correct storage.s3.bucket",
        "AuthorizationHeaderMalformed": "set storage.s3.region to the bucket's region",
        "PermanentRedirect": "set storage.s3.region to the bucket's region",
        "InvalidAccessKeyId": "correct storage.s3.accesskey",
        "SignatureDoesNotMatch": "correct storage.s3.secretkey",
        "InvalidToken": "correct storage.s3.sessiontoken",
        "RequestTimeTooSkewed": "set the clock of this machine",
    },
    place="the bucket (docs/storage.md has a policy)",
    metrics_name="s3aws",
)


@dataclass(frozen=True, slots=True)
class _Service:
    """A `_Service` is the URL of an object storage.

    `has_bucket` is True if the host of the URL contains the name of the bucket.
    """

    url: str
    has_bucket: bool


def bucket_of(parameters: Mapping[str, Any]) -> Bucket:
    """Return the bucket that the keys of `storage.s3` select.

    Raises: StorageBroken if the credentials file or the file of `ca` cannot be read.
    """
    credentials = None if parameters["accesskey"] else shared_credentials(os.environ)
    if credentials is not None:
        # This call raises an error now if the file is unreadable. obstore would call the function
        # only at its first request, and would report the error as a missing response.
        credentials()
    service = _service(parameters)
    config: dict[str, Any] = {
        "region": parameters["region"],
        "endpoint": service.url,
        "virtual_hosted_style_request": service.has_bucket,
        "conditional_put": "etag",
        "disable_bulk_delete": True,
        **_encryption(parameters),
        **_login(parameters),
    }
    client = {"allow_http": service.url.startswith("http:"), **tls_options(parameters)}
    if parameters["useragent"]:
        client["user_agent"] = parameters["useragent"]
    storage_class = str(parameters["storageclass"]).upper()
    return Bucket(
        service=_S3,
        name=parameters["bucket"],
        prefix=str(parameters["rootdirectory"] or "").strip("/"),
        config=config,
        client=client,
        attributes={} if storage_class in _NO_CLASS else {"Storage-Class": storage_class},
        part_bytes=parameters["chunksize"],
        credentials=credentials,
    )


def _service(parameters: Mapping[str, Any]) -> _Service:
    scheme = "https" if parameters["secure"] else "http"
    bucket, region = parameters["bucket"], parameters["region"]
    is_path = parameters["forcepathstyle"]
    if given := parameters["regionendpoint"]:
        url = str(given) if "://" in str(given) else f"{scheme}://{given}"
        if is_path:
            return _Service(url.rstrip("/"), has_bucket=False)
        return _Service(url.rstrip("/").replace("://", f"://{bucket}."), has_bucket=True)
    dual = ".dualstack" if parameters["usedualstack"] else ""
    if parameters["accelerate"]:
        return _Service(f"{scheme}://{bucket}.s3-accelerate{dual}.amazonaws.com", has_bucket=True)
    fips = "-fips" if parameters["usefipsendpoint"] else ""
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    host = f"s3{fips}{dual}.{region}.{domain}"
    # The service's wildcard certificate does not match a host of a bucket whose name has a dot.
    if is_path or "." in bucket:
        return _Service(f"{scheme}://{host}", has_bucket=False)
    return _Service(f"{scheme}://{bucket}.{host}", has_bucket=True)


def _encryption(parameters: Mapping[str, Any]) -> dict[str, Any]:
    if not parameters["encrypt"]:
        return {}
    if not parameters["keyid"]:
        return {"server_side_encryption": "AES256"}
    return {"server_side_encryption": "aws:kms", "sse_kms_key_id": parameters["keyid"]}


def _login(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configured access key and its secret.

    Return no options if no key is configured: obstore then takes the credentials from the
    environment variables or from the metadata service of the machine.
    """
    if not parameters["accesskey"]:
        return {}
    login = {
        "access_key_id": parameters["accesskey"],
        "secret_access_key": parameters["secretkey"],
    }
    token = parameters["sessiontoken"]
    return login | ({"session_token": token} if token else {})


def shared_credentials(environ: Mapping[str, str]) -> Callable[[], Any] | None:
    """Return a function that reads the credentials of a profile from the shared credentials file.

    Return None if the environment names no file and the default file does not exist. Return None
    too if the environment has an access key, a web identity or the credentials of a container: as
    in AWS's SDKs, these take precedence over the file. The returned function raises StorageBroken
    if the file cannot be read, or has no key of the profile.
    """
    earlier = (
        "AWS_ACCESS_KEY_ID",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    )
    if any(environ.get(name) for name in earlier):
        return None
    home = environ.get("HOME", "/nonexistent")
    path = Path(environ.get(_FILE) or f"{home}/.aws/credentials")
    if _FILE not in environ and not path.is_file():
        return None
    profile = environ.get("AWS_PROFILE") or "default"

    def read() -> dict[str, Any]:
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read_string(content(path))
            section = parser[profile]
            key, secret = section["aws_access_key_id"], section["aws_secret_access_key"]
        except (configparser.Error, KeyError) as error:
            raise StorageBroken(f"{path} has no key of the profile {profile}") from error
        return {
            "access_key_id": key,
            "secret_access_key": secret,
            "token": section.get("aws_session_token"),
            "expires_at": datetime.now(UTC) + _AGAIN,
        }

    return read
