"""Run the maintenance jobs: remove garbage and old files, and verify stored content."""
