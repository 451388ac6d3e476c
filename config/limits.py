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
        "after this many wrong passwords in a minute for one user from one address, the next ones"
        " wait in a slower queue",
    )
    lines: value_types.Many = setting(
        "1000",
        "how many requests of one address are logged in a second if they use no content, such as"
        " requests that get 404",
    )
    uploads: value_types.Many = setting(
        "1000", "how many unfinished uploads all users may have together"
    )
    useruploads: value_types.Many = setting(
        "500",
        "how many unfinished uploads one user may have, or one address if there are no users",
    )
