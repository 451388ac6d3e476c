"""Everything that `serve` does as root: separation from the service user, and safe paths.

`separation` keeps root's part in a process of its own, `users` chooses the service user,
`trusted_path` opens paths that the service user cannot redirect, `ownership` gives the data
directory to the service user, and `secret_copies` copies files that only root can read.
"""
