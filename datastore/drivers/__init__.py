"""Implementations of `datastore.storage.Storage` and of `datastore.index.AccessIndex`."""
