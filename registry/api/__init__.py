"""This package is the HTTP API: one resource for each end-point of the OCI distribution spec.

Only this package, `registry.app` and `registry.library` import Falcon.

- `router` has the paths.
- `authorize` identifies the client of a request, resolves the repository and checks the client's
  rights.
- `blobs`, `manifests`, `uploads`, `tags`, `referrers`, `catalog` serve repositories.
- `status`, `docker_login` and `token_endpoint` serve the requests without a repository.
- `etags_and_ranges`, `cache_status`, `pagination` read and write headers.
- `request_body` and `response_body` stream the bodies of requests and responses.
- `errors` maps exceptions to HTTP statuses and OCI codes; `login_log` logs failed logins.
"""
