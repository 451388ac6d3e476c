"""The HTTP API: one resource for each end-point of the OCI distribution spec.

Only this package, `registry.app` and `registry.library` import Falcon.

- `router`: the paths; `authorize`: identification, routing and authorization of a request
- `blobs`, `manifests`, `uploads`, `tags`, `referrers`, `catalog`: resources of repositories
- `status`, `docker_login`: the other resources
- `etags_and_ranges`, `cache_status`, `pagination`: request and response headers
- `request_body`, `response_body`: streaming of bodies
- `errors`: the HTTP status and OCI code of each exception; `login_log`: failed logins
"""
