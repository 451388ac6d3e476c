"""Define the settings of `limits:`, which bound the resources that clients use at the same time."""

from __future__ import annotations

from entrepot.config import value_types
from entrepot.config.section import Section, setting


class LimitsSettings(Section):
    """The settings of `limits:`. The limits keep one client from locking out the others."""

    blobs: value_types.Many = setting("2048", "how many blobs a worker sends at the same time")
    bodies: value_types.Bodies = setting(
        "176", "how many large request bodies a worker receives at the same time, 1 to 512"
    )
    minrate: value_types.Size = setting(
        "10K",
        "when a worker comes near limits.blobs or limits.bodies, it aborts transfers slower than"
        " this rate, in bytes/s",
    )
    few: value_types.Many = setting(
        "32",
        "while requests wait for a worker, a client address with fewer concurrent requests than"
        " this gets a reserved slot",
    )
    logins: value_types.Many = setting(
        "60",
        "after this many wrong passwords in a minute, by user and address, further passwords wait"
        " in a slower queue",
    )
    lines: value_types.Many = setting(
        "1000",
        "how many access log lines a second one address gets for requests that use no content",
    )
    uploads: value_types.Many = setting(
        "1000", "how many unfinished uploads all users may have together"
    )
    useruploads: value_types.Many = setting(
        "500",
        "how many unfinished uploads one user may have, or one address if there are no users",
    )
