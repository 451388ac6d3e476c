"""Find contradictions between the storage driver and other settings."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping

from entrepot.config.azure_settings import AzureSettings
from entrepot.config.errors import Problem
from entrepot.config.keys import Key
from entrepot.config.oss_settings import OssSettings
from entrepot.config.raw_value import RawValue
from entrepot.config.s3_settings import S3Settings
from entrepot.config.schema import Settings
from entrepot.config.section import Section

_S3 = ("storage", "s3")
_UNUSED_IF_SHARED = (
    ("cleaner", "ttl"),
    ("cleaner", "threshold"),
    ("cleaner", "hosted"),
    ("cleaner", "garbage"),
    ("cleaner", "takeover"),
    ("proxy", "ttl"),
    ("hosted",),
)
_AZURE = ("storage", "azure")
_OSS = ("storage", "oss")
_REMOVE_ONE = "take one of the two keys out"


def contradictions(settings: Settings, given: Mapping[Key, RawValue]) -> Iterator[Problem]:
    """Yield a problem for each setting that the storage driver does not allow.

    A missing setting that the driver requires is a problem too.
    """
    if settings.storage.inmemory:
        yield from _in_memory(settings, given)
    if not settings.storage.bucket and settings.storage.spoolsize is not None:
        why = "without a bucket, CLEANER_MAXSIZE limits unfinished downloads and uploads too"
        yield given[("storage", "spoolsize")].problem(why, "take it out")
    if settings.storage.s3:
        yield from _s3(settings.storage.s3, given)
    if settings.storage.azure:
        yield from _azure(settings.storage.azure, given)
    if settings.storage.oss:
        yield from _oss(settings.storage.oss, given)
    if settings.storage.shared and not settings.storage.bucket:
        chosen = given["storage", "shared"]
        yield chosen.problem("only a bucket can be shared", "take it out, or configure a bucket")


def advice(settings: Settings, given: Mapping[Key, RawValue]) -> Iterator[Problem]:
    """Yield a warning for each storage setting that is probably a mistake."""
    if settings.storage.shared:
        for key in _UNUSED_IF_SHARED:
            if (each := given.get(key)) is not None and each.origin != "default":
                yield each.objection("the key has no effect: storage.shared is true", _REMOVE_ONE)
    if settings.storage.azure:
        yield from _unused_login(settings.storage.azure, given)
    if settings.storage.oss:
        why = "the driver uses OSS's S3-compatible API, and was not tested with the service"
        yield _section(_OSS, given).objection(why, "try a push and a pull first")


def _in_memory(settings: Settings, given: Mapping[Key, RawValue]) -> Iterator[Problem]:
    if (state := given.get(("storage", "statedir"))) is not None:
        why = "with storage.inmemory, the index and the logs are in memory too"
        yield state.problem(why, "take it out")
    maxsize = given.get(("cleaner", "maxsize"))
    if maxsize is not None and not settings.cleaner.maxsize:
        yield maxsize.problem("storage.inmemory needs a size limit", "try 1G")


def _s3(s3: S3Settings, given: Mapping[Key, RawValue]) -> Iterator[Problem]:
    yield from _missing(_S3, s3, ("bucket", "region"), given)
    chosen = _section(_S3, given)
    if (s3.accesskey is None) != (s3.secretkey is None):
        lacking = "accesskey" if s3.accesskey is None else "secretkey"
        yield chosen.objection(f"storage.s3.{lacking} is missing", "set both keys, or neither")
    if s3.sessiontoken is not None and s3.accesskey is None:
        why = "storage.s3.sessiontoken is set without accesskey"
        yield chosen.objection(why, "set accesskey and secretkey")
    if s3.keyid is not None and not s3.encrypt:
        why = "objects are not encrypted"
        yield given[*_S3, "keyid"].objection(why, "set storage.s3.encrypt: true")
    if s3.regionendpoint is not None:
        for name in ("accelerate", "usedualstack", "usefipsendpoint"):
            if getattr(s3, name):
                why = "the key selects a host of AWS, but storage.s3.regionendpoint names another"
                yield given[*_S3, name].objection(why, _REMOVE_ONE)
    if s3.accelerate and s3.usefipsendpoint:
        why = "storage.s3.usefipsendpoint is set, but AWS has no FIPS endpoint for acceleration"
        yield given[*_S3, "accelerate"].objection(why, _REMOVE_ONE)


def _azure(azure: AzureSettings, given: Mapping[Key, RawValue]) -> Iterator[Problem]:
    yield from _missing(_AZURE, azure, ("accountname", "container"), given)
    if azure.credentials.type == "shared_key":
        yield from _missing(_AZURE, azure, ("accountkey",), given)
        if azure.accountkey is not None and not _is_base64(azure.accountkey):
            remedy = "copy one of the two keys of the storage account completely"
            yield given[*_AZURE, "accountkey"].objection("not base64", remedy)
    if azure.credentials.type == "client_secret":
        above = (*_AZURE, "credentials")
        yield from _missing(above, azure.credentials, ("clientid", "tenantid", "secret"), given)
    if azure.serviceurl is not None and (realm := given.get((*_AZURE, "realm"))) is not None:
        why = "the key selects a host, but storage.azure.serviceurl names another"
        yield realm.objection(why, _REMOVE_ONE)


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except ValueError:
        return False
    return True


def _unused_login(azure: AzureSettings, given: Mapping[Key, RawValue]) -> Iterator[Problem]:
    """Yield a warning for each credential that `credentials.type` does not use."""
    chosen = azure.credentials.type
    of_other = {
        (*_AZURE, "accountkey"): "shared_key",
        (*_AZURE, "credentials", "clientid"): "client_secret",
        (*_AZURE, "credentials", "tenantid"): "client_secret",
        (*_AZURE, "credentials", "secret"): "client_secret",
    }
    for key, login in of_other.items():
        if login != chosen and key in given and given[key].value not in {"", None}:
            why = f"the key has no effect: storage.azure.credentials.type is {chosen}"
            yield given[key].objection(why, f"set the type to {login}, or take this key out")


def _oss(oss: OssSettings, given: Mapping[Key, RawValue]) -> Iterator[Problem]:
    needed = ("accesskeyid", "accesskeysecret", "region", "bucket")
    yield from _missing(_OSS, oss, needed, given)
    if (internal := given.get((*_OSS, "internal"))) is not None and oss.internal and oss.endpoint:
        why = "the key selects a host, but storage.oss.endpoint names another"
        yield internal.objection(why, _REMOVE_ONE)


def _section(above: Key, given: Mapping[Key, RawValue]) -> RawValue:
    """Return the first value of a section; its source starts a message about the section."""
    return next(each for key, each in given.items() if key[: len(above)] == above)


def _missing(
    above: Key, section: Section, names: tuple[str, ...], given: Mapping[Key, RawValue]
) -> Iterator[Problem]:
    """Yield a problem for each required key of a section that is not set."""
    for name in names:
        if getattr(section, name) is None:
            key = ".".join((*above, name))
            yield _section(above[:2], given).objection(f"{key} is missing", f"set {key}")
