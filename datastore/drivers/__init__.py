"""Implementations of `datastore.storage.Storage` and of `datastore.index.AccessIndex`.

`table` maps the names of the drivers to them. `filesystem` and `sqlite` (with `sqlite_file` and
`sqlite_health`) are used in production, `memory` in tests.
"""
