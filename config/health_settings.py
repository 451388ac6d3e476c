"""Define the settings of `health:`."""

from __future__ import annotations

from collections.abc import Iterator

from entrepot.config import value_types
from entrepot.config.section import Section, section, setting


class StorageDriverSettings(Section):
    """The settings of `health.storagedriver:`."""

    enabled: value_types.Switch = setting(
        "false",
        "whether the data directory is checked; if the check fails threshold times in a row, all"
        " requests get 503",
    )
    interval: value_types.CheckInterval = setting("10s", "the time between two checks")
    threshold: value_types.CheckThreshold = setting(
        "0", "the number of failures in a row after which requests get 503; 0 is the same as 1"
    )


class HealthSettings(Section):
    """The settings of `health:`."""

    storagedriver: StorageDriverSettings = section(StorageDriverSettings)
    file: value_types.FileChecks = setting(
        (), "a list of file checks: all requests get 503 while one of the files exists"
    )
    http: value_types.HttpChecks = setting(
        (),
        "a list of HTTP checks: each uri must answer a HEAD request with the status statuscode",
        secret=True,
    )
    tcp: value_types.TcpChecks = setting(
        (), "a list of TCP checks: each addr must accept a connection"
    )

    @property
    def has_checks(self) -> bool:
        """Return whether any check is configured."""
        return self.storagedriver.enabled or bool(self.file or self.http or self.tcp)

    def names(self, driver: str) -> Iterator[str]:
        """Yield the name of each check, as docker distribution lists it at /debug/health."""
        if self.storagedriver.enabled:
            yield f"storagedriver_{driver}"
        yield from (each.file for each in self.file)
        yield from (each.shown_uri for each in self.http)
        yield from (each.addr for each in self.tcp)
