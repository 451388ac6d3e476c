"""Send events of pulls, pushes, mounts and deletions to the endpoints of `notifications:`.

The events of Entrepot and their envelopes are those of docker distribution. Workers append the
events of writes to a queue on disk before they respond; the logger appends the events of pulls,
which it reads from the access log, and delivers all events. A worker imports no module of this
package while no endpoint is configured.
"""
