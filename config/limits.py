"""Define the settings of `limits:`, which bound the resources that clients use at a time."""

from __future__ import annotations

from entrepot.config import value_types
from entrepot.config.section import Section, setting


class LimitsSettings(Section):
    """The settings of `limits:`. The limits keep one client from locking out the others."""

    blobs: value_types.Many = setting("2048", "blobs that a worker sends at the same time")
    bodies: value_types.Bodies = setting(
        "176", "large bodies that a worker receives at the same time, 1 to 512"
    )
    minrate: value_types.Size = setting(
        "10K",
        "rate in bytes/s; slower transfers are ended first when all slots of a worker are used",
    )
    few: value_types.Many = setting(
        "32", "an address with at most this many requests gets reserved slots when others use all"
    )
    logins: value_types.Many = setting(
        "60",
        "wrong passwords in a minute, by user and address, before further passwords are queued",
    )
    lines: value_types.Many = setting(
        "1000", "access log lines in a second, by address, for requests that use no content"
    )
    uploads: value_types.Many = setting("1000", "unfinished uploads in total")
    useruploads: value_types.Many = setting(
        "500", "unfinished uploads of one user, or of one address if there are no users"
    )
