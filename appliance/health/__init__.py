"""Run the checks of `health:` in `entrepot serve`, and close the API while a check fails.

While the API is closed, HAProxy answers every request with 503, except for `/healthz` and
`/metrics`.
"""
