"""This package is the WSGI server: gunicorn, its workers, and the connections to HAProxy.

- `gunicorn_app`: starts gunicorn with one or two unix sockets for each worker
- `worker`: the gunicorn worker; it keeps a thread at a connection for a moment after a response
- `delivery`: sends a response body over the connection without blocking
- `connection_poller`: continues slow responses and closes connections, without a thread for each
- `fileslice`: a range of an open file, which the kernel sends with sendfile
- `limit_reports`: counts reached limits for the logger's metrics
"""
