"""List the files that settings name, and replace their paths in the settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

from entrepot.config.middleware_settings import MiddlewareSettings
from entrepot.config.schema import Settings, TlsSettings
from entrepot.config.section import Section
from entrepot.config.storage_middleware import PRIVATE_KEY, CloudFrontTarget

_Any = TypeVar("_Any", bound=Section)

_SECRET: Final = ("path",)
_HTPASSWD: Final = ("path",)
_TOKEN: Final = ("rootcertbundle", "jwks")
_TLS: Final = ("certificate", "key")
_UPSTREAM: Final = ("passwordfile", "ca")
_BUCKET: Final = ("ca",)
_FOLLOWED: Final = ("file",)


def named_files(settings: Settings) -> list[Path]:
    """Return every file that the settings name, each file once. Folders are not included."""
    return list(dict.fromkeys(_named(settings)))


def moved(settings: Settings, places: Mapping[Path, Path]) -> Settings:
    """Return the settings with each path in *places* replaced by the path to which it maps."""
    http, auth = settings.http, settings.auth
    htpasswd = auth.htpasswd and _moved(auth.htpasswd, _HTPASSWD, places)
    token = auth.token and _moved(auth.token, _TOKEN, places)
    storage = settings.storage
    bucket = storage.s3 or storage.azure
    driver = {storage.driver: _moved(bucket, _BUCKET, places)} if bucket else {}
    upstreams = {host: _moved(each, _UPSTREAM, places) for host, each in settings.upstreams.items()}
    return settings.changed(
        pullsecret=_moved(settings.pullsecret, _SECRET, places),
        storage=storage.changed(**driver),
        auth=auth.changed(htpasswd=htpasswd, token=token),
        http=http.changed(tls=_moved_tls(http.tls, places)),
        upstreams=upstreams,
        middleware=_moved_middleware(settings.middleware, places),
        followed=_moved(settings.followed, _FOLLOWED, places),
    )


def _moved_tls(tls: TlsSettings, places: Mapping[Path, Path]) -> TlsSettings:
    authorities = tuple(places.get(path, path) for path in tls.clientcas)
    return _moved(tls, _TLS, places).changed(clientcas=authorities)


def _moved_middleware(
    middleware: MiddlewareSettings, places: Mapping[Path, Path]
) -> MiddlewareSettings:
    """Replace the path of CloudFront's private key, which is the value of an option."""
    target = middleware.target
    if not isinstance(target, CloudFrontTarget) or target.private_key not in places:
        return middleware
    *others, last = middleware.storage
    options = {**last.options, PRIVATE_KEY: str(places[target.private_key])}
    return middleware.changed(storage=(*others, replace(last, options=options)))


def _named(settings: Settings) -> Iterator[Path]:
    yield from _of(settings.pullsecret, _SECRET)
    if bucket := settings.storage.s3 or settings.storage.azure:
        yield from _of(bucket, _BUCKET)
    if settings.auth.htpasswd is not None:
        yield from _of(settings.auth.htpasswd, _HTPASSWD)
    if settings.auth.token is not None:
        yield from _of(settings.auth.token, _TOKEN)
    yield from _of(settings.http.tls, _TLS)
    yield from settings.http.tls.clientcas
    if isinstance(target := settings.middleware.target, CloudFrontTarget):
        yield target.private_key
    for upstream in settings.upstreams.values():
        yield from _of(upstream, _UPSTREAM)
    yield from _of(settings.followed, _FOLLOWED)


def _of(section: Section, names: tuple[str, ...]) -> Iterator[Path]:
    return (path for path in (getattr(section, name) for name in names) if path is not None)


def _moved(section: _Any, names: tuple[str, ...], places: Mapping[Path, Path]) -> _Any:
    paths = {name: getattr(section, name) for name in names}
    return section.changed(**{name: places.get(path, path) for name, path in paths.items()})
