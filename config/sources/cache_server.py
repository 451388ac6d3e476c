"""Map docker-cache-server's keys to the settings of the appliance that replace them."""

from __future__ import annotations

from typing import Final

from entrepot.config.distribution import DistributionKey, KeySupport

ADDRESS: Final = ("server", "address")
PORT: Final = ("server", "port")
DIRECTORY: Final = ("storage", "directory")
ENABLED: Final = ("auth", "enabled")
USERS: Final = ("auth", "users")
TTL: Final = ("cache", "ttl")
INTERVAL: Final = ("cache", "cleanup_interval")

MEANT: Final = {
    ADDRESS: "http.addr",
    PORT: "http.addr",
    DIRECTORY: "storage.filesystem.rootdirectory",
    ENABLED: "auth.htpasswd",
    USERS: "auth.htpasswd.users",
    TTL: "cleaner.ttl, cleaner.hosted: true and cleaner.maxsize: 0",
    INTERVAL: "cleaner.runevery",
}
ROWS: Final = tuple(
    DistributionKey(".".join(key), KeySupport.HONOURED, f"docker-cache-server's name of {meant}")
    for key, meant in MEANT.items()
)
VARIABLES: Final = {"DCS_" + "_".join(key).upper(): key for key in MEANT}
