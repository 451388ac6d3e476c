"""Sends events of pulls, pushes, mounts and deletions to the endpoints of `notifications:`.

The events and their envelopes are those of docker distribution. Workers append the events of
writes to a queue on disk before they respond; the logger appends the events of pulls, which it
reads from the access log, and delivers all of them. Nothing of this package is imported by a
worker while no endpoint is configured.
"""
