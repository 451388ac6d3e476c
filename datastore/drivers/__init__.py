"""This package implements `datastore.storage.Storage` and the protocols of `datastore.index`.

The module `table` maps the names of the drivers to the drivers. Production uses `filesystem` and
`sqlite` (with `sqlite_parts`, `sqlite_file` and `sqlite_health`); tests use `memory` and
`memory_parts`.
"""
