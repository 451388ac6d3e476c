"""Pull-through: serve content from disk, join a running download, or fetch from the upstream.

- `blobs`: find or download a blob
- `manifests`: find, revalidate or fetch a manifest
- `lists`: tags and referrers of an upstream, or the stored copy if the upstream is unavailable
- `prefetch`: download the other layers of an image when its first layer is requested
- `recent_answers`: remember 404 responses, and the repositories that an upstream confirmed
- `responses` has the results of these modules, independent of HTTP
"""
