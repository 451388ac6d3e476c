"""This package sends requests to upstream registries, as a client of the distribution API.

A request runs through these modules, from the outside in:

- `protocol` has the interfaces that the rest of the registry uses: `Upstream`, `RemoteBlob`.
- `upstreams` and `upstream_config` have the table of upstreams and the settings of each.
- `mirrors`, `guarded`: wrappers that add mirrors and turn unexpected errors into `Unavailable`.
- `client`, `blob` and `documents` have the operations of the API, and the bodies of responses.
- `exchange`, `breaker` and `liveness` send one request through the circuit breaker.
- `authorizer`, `challenge`, `credentials` and `tokens` authenticate requests.
- `redirects`, `urls`, `destinations`: where requests and credentials may go.
- `wire`, `pools`, `dial`, `proxies`, `response`, `headers` and `coding` implement HTTP itself.
"""
