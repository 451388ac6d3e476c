"""Index -> plan -> sweep: what nobody wants any more goes, so that the disk never fills."""
