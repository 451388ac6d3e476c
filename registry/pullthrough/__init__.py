"""Serve content from disk, join a running download, or fetch the content from the upstream.

- `blobs` finds or downloads a blob.
- `manifests` finds, revalidates or fetches a manifest.
- `lists` returns the tags and referrers of a repository. During an outage of the upstream, it
  returns stored tags and referrers.
- `prefetch` downloads the other layers of an image when a client requests the first layer.
- `recent_answers` remembers 404 responses, and confirmations that a repository has a blob.
- `responses` defines the results of these modules, independent of HTTP.
"""
