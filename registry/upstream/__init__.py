"""Requests to upstream registries: the distribution API as a client.

A request runs through these modules, from the outside in:

- `protocol`: the interfaces that the rest of the registry uses: `Upstream`, `RemoteBlob`.
- `upstreams`, `upstream_config`: the table of upstreams and the settings of each.
- `mirrors`, `guarded`: wrappers that add mirrors and turn unexpected errors into `Unavailable`.
- `client`, `blob`, `documents`: the operations of the API, and the bodies of the responses.
- `exchange`, `breaker`, `liveness`: one request with its circuit breaker.
- `authorizer`, `challenge`, `credentials`, `tokens`: authentication.
- `redirects`, `urls`, `destinations`: where requests and credentials may go.
- `wire`, `pools`, `dial`, `proxies`, `response`, `headers`, `coding`: HTTP itself.
"""
