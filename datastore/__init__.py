"""All processes share this data directory: storage, index, and the formats of both.

The content is in `content` (the store as pulls and pushes use it), `blobs`, `repositories`,
`catalog`, `manifest`, `proofs`, `quarantine`, `unverified`. The interfaces are `storage` and
`index`; `drivers` implements them. Space: `budget`, `reservations`, `disk_space`. Names and formats
are in `layout`, `refs`, `globs`, `accesslog`, `bounded_json`. `probe`, `rebuild` and `takeover` run
at the start and repair. `locks` and `listings` are used by several of them; `errors` has the
exceptions.
"""
