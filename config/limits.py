"""The settings of `limits:`, what clients may hold at a time."""

from __future__ import annotations

from config import kinds
from config.section import Section, setting


class LimitsSettings(Section):
    """`limits:`, what clients may hold at a time, so that none locks out the others."""

    blobs: kinds.Many = setting("2048", "blobs that a worker sends at a time")
    bodies: kinds.Bodies = setting("176", "large bodies that a worker receives at a time, 1 to 512")
    minrate: kinds.Size = setting(
        "10K", "bytes a second, slower transfers end first when these places are short"
    )
    few: kinds.Many = setting(
        "32", "requests up to which an address gets spare places when others take all"
    )
    logins: kinds.Many = setting(
        "60", "wrong passwords in a minute, by user and address, from which on each waits in line"
    )
    uploads: kinds.Many = setting("1000", "uploads that are begun and not ended, in all")
    useruploads: kinds.Many = setting(
        "500", "and of one user, or of one address where there are no users"
    )
