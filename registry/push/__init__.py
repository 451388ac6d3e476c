"""What clients write: uploads, manifests, deletes; and the lists of what was pushed."""
