"""The import package: a relative link for each top-level folder of the repository."""
