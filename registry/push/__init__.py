"""This package handles writes (uploads, manifests, deletes) and lists pushed content.

- `uploads`: begin, continue, finish and cancel an upload; mount a blob
- `upload_sessions` has the files of unfinished uploads, their locks, reservations and limits
- `hashes`: the digest of an upload so far, kept for its next request
- `manifests`: store and link a pushed manifest
- `referrers`: the list of manifests that refer to a manifest
- `deletes`: remove tags, manifests and blobs from a repository
- `pins`: keep the content that a push relies on from eviction
- `catalog` has the list of repositories
"""
