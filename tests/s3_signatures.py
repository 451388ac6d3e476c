"""Checks the signature of a request to S3 (Signature Version 4) with botocore's signer.

The signature is in a header, or in the query of a presigned URL. The signature covers the key,
time, region, method, path, query and signed headers. A signature in a header also covers the body's
hash.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import HTTPHeaders
from botocore.credentials import Credentials

_SKEW = timedelta(minutes=15)
_LONGEST = 7 * 24 * 3600
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/]+)/(?P<day>\d{8})/(?P<region>[^/]+)/s3/aws4_request,"
    r" ?SignedHeaders=(?P<signed>[^,]+), ?Signature=(?P<signature>[0-9a-f]{64})"
)
_TIME = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True)
class Refusal:
    """The answer with which S3 refuses a request: the HTTP status and S3's error code."""

    status: int
    code: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Account:
    """The access key that a bucket accepts, and the bucket's region."""

    key: str = "AKIAENTREPOT"
    secret: str = "a secret/with+signs"
    region: str = "eu-test-1"
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Signed:
    """A request as it was received; header names are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


class _Exact(S3SigV4Auth):  # type: ignore[misc] # botocore has no types
    """botocore's signer, changed to sign exactly the headers that the request has."""

    def headers_to_sign(self, request: AWSRequest) -> HTTPHeaders:
        """Return all headers: *request* has only the headers that the client signed."""
        return request.headers


def refusal(  # noqa: PLR0911 - one for each rule
    request: Signed, account: Account, now: datetime | None = None
) -> Refusal | None:
    """Return the refusal of a request, or None if its signature is right."""
    now = now or datetime.now(UTC)
    query = dict(parse_qsl(urlsplit(request.target).query, keep_blank_values=True))
    if "X-Amz-Signature" in query:
        return _of_url(request, account, query, now)
    found = _AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
    if found is None:
        return Refusal(403, "AccessDenied", "the request is not signed")
    sent = _time(request.headers.get("x-amz-date", ""))
    if sent is None or abs(now - sent) > _SKEW or found["day"] != sent.strftime("%Y%m%d"):
        return Refusal(403, "RequestTimeTooSkewed")
    if wrong := _wrong_account(found["key"], found["region"], account):
        return wrong
    if request.headers.get("x-amz-security-token") != account.token:
        return Refusal(400, "InvalidToken")
    expected = _signature(request, account, found["signed"].split(";"), request.target)
    if expected != found["signature"]:
        return Refusal(403, "SignatureDoesNotMatch")
    return _wrong_body(request)


def _of_url(  # noqa: PLR0911 - one for each rule
    request: Signed, account: Account, query: Mapping[str, str], now: datetime
) -> Refusal | None:
    if "authorization" in request.headers:
        return Refusal(400, "InvalidArgument", "Only one auth mechanism allowed")
    sent = _time(query.get("X-Amz-Date", ""))
    seconds = int(query.get("X-Amz-Expires", "0"))
    key, _, scope = query.get("X-Amz-Credential", "").partition("/")
    region = scope.split("/")[1] if scope.count("/") == 3 else ""
    if sent is None or not 0 < seconds <= _LONGEST:
        return Refusal(400, "AuthorizationQueryParametersError")
    if now > sent + timedelta(seconds=seconds):
        return Refusal(403, "AccessDenied", "Request has expired")
    if wrong := _wrong_account(key, region, account):
        return wrong
    if query.get("X-Amz-Security-Token") != account.token:
        return Refusal(400, "InvalidToken")
    unsigned = re.sub(r"&?X-Amz-Signature=[^&]*", "", request.target)
    signed = query.get("X-Amz-SignedHeaders", "").split(";")
    if "host" not in signed:
        return Refusal(400, "AuthorizationQueryParametersError")
    expected = _signature(request, account, signed, unsigned, date=query["X-Amz-Date"])
    if expected != query["X-Amz-Signature"]:
        return Refusal(403, "SignatureDoesNotMatch")
    return None


def _wrong_account(key: str, region: str, account: Account) -> Refusal | None:
    if key != account.key:
        return Refusal(403, "InvalidAccessKeyId")
    if region != account.region:
        return Refusal(400, "AuthorizationHeaderMalformed", f"expecting '{account.region}'")
    return None


def _signature(
    request: Signed, account: Account, signed: list[str], target: str, date: str | None = None
) -> str:
    signer = _Exact(Credentials(account.key, account.secret), "s3", account.region)
    headers = {name: request.headers.get(name, "") for name in signed}
    if date is not None:  # the signature of a presigned URL does not cover the body
        headers["x-amz-content-sha256"] = "UNSIGNED-PAYLOAD"
    made = AWSRequest(request.method, f"http://{request.headers['host']}{target}", headers)
    made.context["timestamp"] = date or request.headers["x-amz-date"]
    canonical = signer.canonical_request(made)
    if date is not None:
        canonical = canonical.replace("x-amz-content-sha256:UNSIGNED-PAYLOAD\n", "")
        canonical = canonical.replace(";x-amz-content-sha256\n", "\n")
    return str(signer.signature(signer.string_to_sign(made, canonical), made))


def _wrong_body(request: Signed) -> Refusal | None:
    given = request.headers.get("x-amz-content-sha256", "")
    if given in {"UNSIGNED-PAYLOAD", hashlib.sha256(request.body).hexdigest()}:
        return None
    return Refusal(400, "XAmzContentSHA256Mismatch")


def _time(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, _TIME).replace(tzinfo=UTC)
    except ValueError:
        return None
