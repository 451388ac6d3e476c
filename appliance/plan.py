"""Compute the plan for the main loop of `serve` from the settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from entrepot.appliance.held_run import HeldRunDirectory
from entrepot.appliance.serve_plan import AccessLogPlan, LogPlan, ServePlan
from entrepot.appliance.supervise import listen_address
from entrepot.appliance.supervise.environment import log_share
from entrepot.appliance.supervise.tls_files import TlsPaths
from entrepot.appliance.upstreams import upstream_names
from entrepot.config.address import SocketPath
from entrepot.config.http_settings import TlsSettings
from entrepot.config.schema import Settings
from entrepot.datastore.budget import Budget


def serve_plan(
    settings: Settings, run: HeldRunDirectory, environment: Mapping[str, str], *, had_terminal: bool
) -> ServePlan:
    """Return the plan for the main loop.

    *environment* has the environment variables for supervisord.
    """
    address, storage = settings.http.addr, settings.storage
    return ServePlan(
        run=run,
        data=storage.rootdirectory,
        state=storage.statedir,
        log=log_plan(settings),
        access_log=_access_log(settings),
        tls=tls_paths(settings.http.tls),
        environment=environment,
        startup_fields=_startup_fields(settings),
        grace=settings.http.draintimeout,
        had_terminal=had_terminal,
        socket=Path(address.path) if isinstance(address, SocketPath) else None,
        has_checks=settings.health.has_checks,
        has_content_to_leave=bool(storage.inmemory or storage.bucket),
    )


def tls_paths(tls: TlsSettings) -> TlsPaths:
    """Return the paths of the files of `http.tls`."""
    return TlsPaths(tls.certificate, tls.key, tls.clientcas)


def log_plan(settings: Settings) -> LogPlan:
    """Return the settings of `log:`."""
    log = settings.log
    return LogPlan(log.level, log.formatter, log.fields, log.reportcaller, log.hooks)


def _access_log(settings: Settings) -> AccessLogPlan:
    cleaner, printed = settings.cleaner, settings.log.accesslog
    spoolsize = settings.storage.spoolsize
    share = log_share(Budget(cleaner.maxsize, cleaner.threshold, spoolsize=spoolsize))
    return AccessLogPlan(
        file_bytes=share.file_bytes,
        backups=share.backups,
        bytes_a_second=share.bytes_a_second,
        lines=settings.limits.lines,
        printed="" if printed.disabled else printed.formatter,
    )


def _startup_fields(settings: Settings) -> dict[str, str]:
    """Return the fields of the log message `serving`."""
    return {
        "url": listen_address.url_of(
            settings.http.addr, tls=settings.http.tls.certificate is not None
        ),
        "data": settings.storage.place,
        "upstreams": " ".join(upstream_names(settings)),
    }
