"""Resolve the repository name of a request to an upstream and a repository on disk.

- `resolve` resolves a name, with or without containerd's `ns` parameter.
- `name_conflicts` finds hosted repositories that the name of an upstream would hide.
"""
