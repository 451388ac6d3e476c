"""This package downloads blobs from upstreams; the clients of all workers share each download.

- `singleflight` joins or begins the one download of a blob, and reads the growing spool file.
- `writer` runs the thread that fills the spool file, verifies the blob and commits it.
- `parallel` fetches a large blob over several connections.
- `resume` continues a download after a connection failed, from the same source or the next one.
- `sources` decides which source gets the next request, how long the download pauses and when it
  ends.
- `verify` holds back the last byte of a response until the digest is verified.
- `spoolfile` defines the format of spool files, and flushes these files to the disk.
"""
