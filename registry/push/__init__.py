"""This package handles writes (uploads, manifests, deletes) and lists pushed content.

- `uploads` begins, continues, finishes and cancels uploads, and mounts blobs.
- `upload_sessions` manages the files of unfinished uploads, their locks, reservations and limits.
- `hashes` keeps the digest of an unfinished upload for the upload's next request.
- `manifests` stores and links pushed manifests.
- `push_rules` checks pushed manifests against the settings `validation:` and `policy:`.
- `referrers` lists the manifests that refer to a manifest.
- `deletes` removes tags, manifests and blobs from a repository.
- `pins` prevents the eviction of the content that a push needs.
- `catalog` lists the repositories.
"""
