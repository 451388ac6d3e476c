"""This package authenticates and authorizes clients.

- `identity` defines authenticators and `Identity`, which holds the rights of one client.
- `rules` defines the access rules, and the rights class that the rules assign to a user.
- `basic` identifies clients by passwords, `tokens` by bearer tokens.
- `htpasswd` reads the password file and checks passwords with bcrypt.
- `password_cache` keeps the results of earlier password checks.
- `token_verifier` verifies tokens with the keys of `key_files`; `own_tokens` issues tokens.
"""
