"""This package is the WSGI server: gunicorn, its workers, and the connections to HAProxy.

- `gunicorn_app` starts gunicorn with one or two unix sockets for each worker.
- `worker` is the gunicorn worker; its threads wait at a connection for a moment after a response.
- `delivery` sends a response body, and hands it over to the poller if the client reads slowly.
- `connection_poller` continues slow responses, watches idle connections and closes connections, all
  in one thread; `polled` defines the kinds of these connections and their limits.
- `repeats` stores the responses that the poller sends again to equal requests.
- `fileslice` defines ranges of an open file, which the kernel sends with sendfile.
- `limit_reports` counts how often each limit was reached, for the logger's metrics.
"""
