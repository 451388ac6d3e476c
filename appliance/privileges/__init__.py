"""This package has everything that `serve` does as root, if the image starts it as root.

- `separation`: root's process, and the process of the service user, which runs the appliance
- `users`: chooses the service user, and becomes it
- `trusted_path`: opens paths without following anything that the service user can replace
- `ownership`: creates the data directory, and gives it to the service user
- `secret_copies`: copies files that only root can read, for the service user
"""
