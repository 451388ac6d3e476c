"""`entrepot doctor`: checks whether clients can pull through a running appliance, by every route.

- `command`: options and output; `examination`: the order of the checks; `finding`: their results
- `trust`: the TLS certificate; `pull`: one pull as a client does it; `routes`: the forms of a name
- `images`: chooses the image to pull; `http_client`: sends requests to the appliance
"""
