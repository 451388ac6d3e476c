"""This package downloads blobs from upstreams, shared by the clients of all workers.

- `singleflight`: join or begin the one download of a blob, and follow its file as a reader
- `writer` is the thread that fills the spool file, verifies it and commits it
- `parallel`: fetch a large blob over several connections
- `resume`: continue a body that broke off, at the same source or the next
- `sources`: choose the source for the next request, the pauses, and the end of a download
- `verify`: hold back the last byte of a response until the digest is verified
- `spoolfile` has the format of spool files, and their fsync
"""
