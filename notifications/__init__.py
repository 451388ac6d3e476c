"""Send events of pulls, pushes, mounts and deletions to the endpoints in `notifications:`.

The events of Entrepot and their envelopes have the format of docker distribution. A worker appends
the event of a write to a queue on disk before it responds to the client. The logger reads pulls
from the access log, and appends their events to the queue. The logger delivers all queued events.
If no endpoint is configured, a worker imports no module of this package.
"""
