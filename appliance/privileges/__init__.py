"""This package does the work of `serve` as root, if the image starts `serve` as root.

- `separation` has root's process, and the service user's process, which runs the appliance.
- `users` chooses the service user, and becomes that user.
- `trusted_path` opens paths without following anything that the service user can replace.
- `ownership` creates the data directory, and gives it to the service user.
- `secret_copies` copies files that only root can read, for the service user.
"""
