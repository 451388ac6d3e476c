"""Read the access log and the events file, and write access times and metrics.

The access log has a line for every request, even for those that HAProxy serves from its cache. The
events file has a line for each event that a program reports, such as a download.
"""
