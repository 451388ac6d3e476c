"""Check whether clients can pull through a running appliance, by every route (`entrepot doctor`).

- `command` has options and output; `examination` orders the checks; `finding` has their results.
- `trust` checks the TLS certificate; `pull` pulls as a client does; `routes` has the forms of a
  name.
- `bearer`: requests tokens as clients do; `token_checks`: the checks of `auth.token`
- `images` chooses the image to pull; `http_client` sends requests to the appliance.
"""
