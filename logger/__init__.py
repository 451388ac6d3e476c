"""Reads the access log and the events file, and writes access times and metrics.

The log contains every request, including those that HAProxy serves from its cache.
"""
