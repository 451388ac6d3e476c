"""This package authenticates and authorizes clients.

- `identity` has the authenticators, and `Identity`, the rights of one client
- `rules`: access rules, and the rights class that they give to a user
- `htpasswd` reads the password file and checks passwords with bcrypt
- `password_cache` keeps the results of earlier password checks
"""
