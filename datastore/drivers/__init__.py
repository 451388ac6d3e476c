"""This package implements `datastore.storage.Storage` and the protocols of `datastore.index`.

The module `table` maps the names of the drivers to the drivers. Production uses `filesystem` or one
of the object storages, and `sqlite` (with `sqlite_parts`, `sqlite_file` and `sqlite_health`); tests
use `memory` and `memory_parts`.

`s3`, `azure` and `oss` translate docker distribution's keys of one object storage each. The folder
`objects` has what all object storages share.
"""
