"""Do the part of `serve` that needs root's rights, if the image starts `serve` as root.

- `separation` divides `serve` into root's process and the service user's process, which runs the
  appliance.
- `users` chooses the service user, and switches the process to that user.
- `trusted_path` opens paths so that the service user cannot redirect root to another file.
- `ownership` creates the data directory, and makes the service user its owner.
- `secret_copies` copies files that only root can read, so that the service user can read them.
"""
