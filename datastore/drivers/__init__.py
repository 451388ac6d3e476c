"""Implement the protocol `datastore.storage.Storage` and the protocols of `datastore.index`.

The module `table` maps the name of each driver to a function that opens it. In production, the
storage is `filesystem` or one of the object storages, and the index is `sqlite` (with
`sqlite_parts`, `sqlite_file` and `sqlite_health`). `memory` and `memory_parts` are for tests.

Each of `s3`, `azure` and `oss` translates docker distribution's configuration keys for one object
storage. The folder `objects` has the code that all object storages share.
"""
