"""Authentication and authorization of clients.

- `identity`: the authenticators, and `Identity`, the rights of one client
- `rules`: access rules, and the rights class that they give to a user
- `htpasswd`: the password file and its bcrypt checks
- `password_cache`: the results of earlier password checks
- `fair_queue`: the queue for password checks
"""
