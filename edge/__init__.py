"""Only this package knows HAProxy's content cache.

`cache_epoch` is the number that every cache key contains. `invalidation` and `purge` raise it, and
`cache_fill` sends the GET that fills the cache after repeated HEADs.
"""
