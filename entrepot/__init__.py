"""This is the import package: it has a relative link for each top-level folder."""
