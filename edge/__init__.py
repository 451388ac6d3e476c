"""Only this package has code about HAProxy's content cache.

`cache_epoch` is the number that every cache key contains. `invalidation` and `purge` raise the
cache epoch, and `cache_fill` sends the GET that fills the cache after repeated HEADs.
"""
