"""This package sends requests to upstream registries, as a client of the distribution API.

A request runs through these modules, from the outside in:

- `protocol` defines the interfaces that the rest of the registry uses: `Upstream`, `RemoteBlob`.
- `upstreams` and `upstream_config` define the table of upstreams and the settings of each.
- `mirrors` adds mirrors to an upstream; `guarded` turns unexpected errors into `Unavailable`.
- `client`, `blob` and `documents` implement the operations of the API and read the bodies of
  responses.
- `exchange`, `breaker` and `liveness` send one request through the circuit breaker.
- `authorizer`, `challenge`, `credentials` and `tokens` authenticate requests.
- `redirects`, `urls` and `destinations` decide where requests and credentials may go.
- `wire`, `pools`, `dial`, `response`, `headers` and `coding` implement HTTP itself.
"""
