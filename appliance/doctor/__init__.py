"""Check whether clients can pull images through a running appliance (`entrepot doctor`).

- `command` reads the options and prints the results; `examination` runs the checks in order;
  `finding` defines the result of a check.
- `trust` checks the TLS certificate; `pull` pulls an image as a client does; `routes` lists the
  forms in which the different clients write an image's name.
- `bearer` requests tokens as clients do; `token_checks` checks `auth.token`.
- `images` chooses the image to pull; `http_client` sends requests to the appliance.
"""
