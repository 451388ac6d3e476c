"""This package has the maintenance jobs: garbage, old files, verification, and damaged files."""
