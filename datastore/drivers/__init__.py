"""Implementations of `datastore.storage.Storage` and of the protocols in `datastore.index`.

`table` maps the names of the drivers to them. `filesystem` and `sqlite` (with `sqlite_parts`,
`sqlite_file` and `sqlite_health`) are used in production, `memory` and `memory_parts` in tests.
"""
