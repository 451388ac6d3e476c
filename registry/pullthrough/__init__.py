"""Serve content from disk, join a running download, or fetch the content from the upstream.

- `blobs` finds or downloads a blob.
- `manifests` finds, revalidates or fetches a manifest.
- `lists` returns the tags and referrers of an upstream, and stores them for an outage of the
  upstream.
- `prefetch` downloads the other layers of an image when a client requests the first layer.
- `recent_answers` remembers 404 responses, and repositories that an upstream confirmed.
- `responses` defines the results of these modules, independent of HTTP.
"""
