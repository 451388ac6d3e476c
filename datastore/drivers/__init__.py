"""This package implements `datastore.storage.Storage` and the protocols of `datastore.index`.

`table` maps the names of the drivers to them. `filesystem` and `sqlite` (with `sqlite_parts`,
`sqlite_file` and `sqlite_health`) are used in production, `memory` and `memory_parts` in tests.
"""
