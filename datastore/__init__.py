"""All processes share this data directory: storage, index, and the formats of both.

Content: `content` (the store as pulls and pushes use it), `blobs`, `repositories`, `catalog`,
`manifest`, `proofs`, `quarantine`, `unverified`. Interfaces: `storage`, `index`, implemented in
`drivers`. Space: `budget`, `reservations`, `disk_space`. Names and formats: `layout`,
`refs`, `globs`, `accesslog`, `bounded_json`. Start and repair: `probe`, `rebuild`, `takeover`.
`locks` and `listings` are used by several of them; `errors` has the exceptions.
"""
