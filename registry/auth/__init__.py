"""This package authenticates and authorizes clients.

- `identity` defines authenticators, and `Identity`, which has the rights of one client.
- `rules` has the access rules, and the rights class that the rules give to a user.
- `htpasswd` reads the password file and checks passwords with bcrypt.
- `password_cache` keeps the results of earlier password checks.
"""
