"""`entrepot doctor`: checks whether clients can pull through a running appliance, by every route.

- `command` has options and output; `examination` orders the checks; `finding` has their results
- `trust`: the TLS certificate; `pull`: one pull as a client does it; `routes`: the forms of a name
- `bearer`: requests tokens as clients do; `token_checks`: the checks of `auth.token`
- `images`: chooses the image to pull; `http_client`: sends requests to the appliance
"""
