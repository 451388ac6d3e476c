"""Find contradictions between the storage driver and other settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from entrepot.config.errors import Problem
from entrepot.config.keys import Key
from entrepot.config.raw_value import RawValue
from entrepot.config.s3_settings import S3Settings
from entrepot.config.schema import Settings

_S3 = ("storage", "s3")


def contradictions(settings: Settings, given: Mapping[Key, RawValue]) -> Iterator[Problem]:
    """Yield a problem for each setting that contradicts the storage driver, or that it needs."""
    if settings.storage.inmemory:
        yield from _in_memory(settings, given)
    if settings.storage.s3:
        yield from _s3(settings.storage.s3, given)


def _in_memory(settings: Settings, given: Mapping[Key, RawValue]) -> Iterator[Problem]:
    if (state := given.get(("storage", "statedir"))) is not None:
        why = "with storage.inmemory, index and logs are in memory too"
        yield state.problem(why, "take it out")
    maxsize = given.get(("cleaner", "maxsize"))
    if maxsize is not None and not settings.cleaner.maxsize:
        yield maxsize.problem("storage.inmemory needs a size limit", "try 1G")


def _s3(s3: S3Settings, given: Mapping[Key, RawValue]) -> Iterator[Problem]:
    chosen = next(each for key, each in given.items() if key[:2] == _S3)
    for name in ("bucket", "region"):
        if getattr(s3, name) is None:
            yield chosen.objection(f"storage.s3.{name} is missing", f"set storage.s3.{name}")
    if (s3.accesskey is None) != (s3.secretkey is None):
        lacking = "accesskey" if s3.accesskey is None else "secretkey"
        yield chosen.objection(f"storage.s3.{lacking} is missing", "set both keys, or neither")
    if s3.sessiontoken is not None and s3.accesskey is None:
        yield chosen.objection("storage.s3.sessiontoken is of no key", "set the keys too")
    if s3.keyid is not None and not s3.encrypt:
        yield given[*_S3, "keyid"].objection("without effect", "set storage.s3.encrypt: true")
    if s3.regionendpoint is not None:
        for name in ("accelerate", "usedualstack", "usefipsendpoint"):
            if getattr(s3, name):
                why = "it selects a host of AWS, and storage.s3.regionendpoint selects another"
                yield given[*_S3, name].objection(why, "take one of them out")
    if s3.accelerate and s3.usefipsendpoint:
        why = "AWS has no such host together with storage.s3.usefipsendpoint"
        yield given[*_S3, "accelerate"].objection(why, "take one of them out")
