"""Control HAProxy's content cache.

`cache_epoch` has the number that is a part of every key of the cache. `invalidation` and `purge`
raise this number after a change. `cache_fill` sends a GET after repeated HEADs, so that the
response fills the cache.
"""
