"""Tests of the check of a bucket, which the start of the appliance and `entrepot check` run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from entrepot.appliance import bucket
from entrepot.appliance.check import as_json, report
from entrepot.config import ConfigError
from entrepot.config.schema import Settings
from entrepot.datastore import layout
from entrepot.datastore.drivers.objects.check import tried_requests
from entrepot.datastore.drivers.objects.setup import BucketParts, parts_of, signer_of
from tests.config.config_folder import ConfigFolder
from tests.s3_front import Refused, S3Front
from tests.s3_signatures import Refusal
from tests.s3_storage import configured, parameters

pytestmark = pytest.mark.slow

_PROBE = f"{layout.OWN}/check-"
_ALL = ["list", "put", "conditional put", "get with range", "delete"]


@pytest.fixture
def parts(s3: S3Front, tmp_path: Path) -> BucketParts:
    """Return the `BucketParts` of an empty bucket."""
    return parts_of("s3", parameters(s3, tmp_path), lambda: 0.0)


def _settings(s3: S3Front, folder: Path, **others: str) -> Settings:
    """Return the settings of an appliance whose bucket is on the S3 server of the tests."""
    keys = {
        **configured(s3),
        **others,
    }
    lines = "".join(f"    {name}: {value!r}\n" for name, value in keys.items() if value)
    written = ConfigFolder(folder)
    written.write(f"storage:\n  statedir: {folder}\n  s3:\n{lines}")
    return written.settings()


def test_each_request_is_tried_once_and_leaves_nothing(s3: S3Front, parts: BucketParts) -> None:
    """The check lists the bucket once, and writes, reads and removes one small object."""
    tried = list(parts.tried())

    assert [each.name for each in tried] == _ALL
    assert all(each.seconds >= 0 and not each.why for each in tried)
    assert s3.keys() == s3.refused == []
    assert s3.counts() == {"GET": 2, "PUT": 2, "DELETE": 1}


@pytest.mark.parametrize(
    ("action", "name", "permission"),
    [
        ("GET ^$", "list", "s3:ListBucket"),
        (f"PUT {_PROBE}", "put", "s3:PutObject"),
        (f"GET {_PROBE}", "get with range", "s3:GetObject"),
        (f"DELETE {_PROBE}", "delete", "s3:DeleteObject"),
    ],
)
def test_a_policy_that_lacks_an_action_is_named(
    s3: S3Front, parts: BucketParts, action: str, name: str, permission: str
) -> None:
    """The check ends at the first request that the bucket refuses; it names the missing permission.

    The check removes the object that it has written, if the bucket permits this.
    """
    method, _, key = action.partition(" ")
    s3.fault(method, key, Refused(Refusal(403, "AccessDenied")))

    *accepted, refused = parts.tried()

    assert [each.name for each in accepted] == _ALL[: _ALL.index(name)]
    assert not any(each.why for each in accepted)
    assert refused.why.startswith(f"{name}: ")
    assert refused.why.endswith("AccessDenied")
    assert refused.remedy.startswith(f"allow {permission} on the bucket")
    assert bool(s3.keys()) is (name == "delete")


def test_a_signed_url_is_fetched_as_clients_fetch_it(s3: S3Front, parts: BucketParts) -> None:
    """The check fetches its object from a signed URL without a login, as redirected clients do."""
    sign = signer_of("s3", parameters(s3, parts.state), None)

    tried = list(parts.tried(sign))

    assert [each.name for each in tried] == [*_ALL[:4], "signed URL", "delete"]
    assert not any(each.why for each in tried)
    assert sum("X-Amz-Signature" in each.query for each in s3.requests) == 1
    assert s3.refused == []


def test_a_refused_url_is_a_problem_and_an_unreachable_host_a_warning(
    s3: S3Front, parts: BucketParts, caplog: pytest.LogCaptureFixture
) -> None:
    """If the bucket refuses a signed URL, the check fails: no client could use such a URL.

    If this machine cannot reach the host of the URL, there is only a warning, because clients may
    be able to reach it.
    """
    sign = signer_of("s3", parameters(s3, parts.state), None)

    *_, refused = tried_requests(parts.client, lambda key, _: f"{sign(key, 60)}0")
    elsewhere = list(tried_requests(parts.client, lambda key, _: f"http://127.0.0.1:1/{key}"))

    assert refused.why == "signed URL: 403 SignatureDoesNotMatch"
    assert [each.why for each in elsewhere] == [""] * 6
    assert "no response from a signed URL" in caplog.text
    assert s3.keys() == []


def test_a_check_shows_the_time_of_each_request(s3: S3Front, tmp_path: Path) -> None:
    """`entrepot check` prints the time of each request; its JSON has the times in seconds."""
    s3.fault("DELETE", _PROBE, Refused(Refusal(403, "AccessDenied")))
    loaded = ConfigFolder(tmp_path).examine()
    tried = list(bucket.tried(_settings(s3, tmp_path)))
    lines = [line.split() for line in report(loaded, tried=tried).splitlines()]
    document = json.loads(as_json(loaded, tried=tried))

    assert [line[-1] for line in lines if line[-2:-1] == ["ms"]] == [*["accepted"] * 5, "refused"]
    assert [each["name"] for each in document["requests"]] == [each.name for each in tried]
    assert document["requests"][0]["seconds"] == tried[0].seconds
    assert "s3:DeleteObject" in document["requests"][-1]["remedy"]
    assert "Requests to the bucket" not in report(loaded)
    assert json.loads(as_json(loaded))["requests"] == []


@pytest.mark.parametrize(
    ("wrong", "remedy"),
    [
        ({"accesskey": "AKIAWRONG"}, "correct storage.s3.accesskey"),
        ({"secretkey": "wrong"}, "correct storage.s3.secretkey"),
        ({"region": "us-east-1"}, "set storage.s3.region to the bucket's region"),
        ({"bucket": "absent"}, "create the bucket, or correct storage.s3.bucket"),
    ],
    ids=["key", "secret", "region", "bucket"],
)
def test_a_wrong_setting_is_one_problem(
    s3: S3Front, tmp_path: Path, wrong: dict[str, str], remedy: str
) -> None:
    """The start of the appliance and `entrepot check` report a wrong setting with the same line."""
    settings = _settings(s3, tmp_path, **wrong)

    (found,) = bucket.problems(settings)
    (shown,) = (bucket.problem(settings, each) for each in bucket.tried(settings) if each.why)

    assert (found.source, found.remedy) == (shown.source, shown.remedy)
    assert str(found).endswith(remedy)
    assert str(found).startswith("storage.s3=s3://")
    assert "\n" not in str(found)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "cannot be read"),
        ("", "has no key of the profile ours"),
        ("[ours]\n", "has no key of the profile ours"),
        ("[ours]\naws_access_key_id = AKIA\n", "has no key of the profile ours"),
        ("no section\n", "has no key of the profile ours"),
        ("\ud800", "cannot be read"),
    ],
    ids=["absent", "empty", "no key", "half a key", "no sections", "no text"],
)
def test_a_file_of_credentials_that_is_of_no_use_is_a_problem(
    s3: S3Front,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: str | None,
    expected: str,
) -> None:
    """If the credentials file is unusable, the appliance does not start.

    Without this check, obstore would report that the bucket does not respond, and the appliance
    would start, because a bucket can respond later.
    """
    file = tmp_path / "credentials"
    if content is not None:
        file.write_bytes(content.encode("utf-8", "surrogatepass"))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_PROFILE", "ours")
    settings = _settings(s3, tmp_path, accesskey="", secretkey="")

    for names in (bucket.problems, bucket.tried):
        with pytest.raises(ConfigError) as error:
            list(names(settings))
        (found,) = error.value.problems
        assert expected in str(found)
        assert "\n" not in str(found)
        assert str(file) in str(found)
    assert s3.requests == []
