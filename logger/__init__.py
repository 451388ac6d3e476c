"""Read the access log and the events file, and write access times and metrics.

The access log contains every request, including requests that HAProxy serves from its cache.
"""
