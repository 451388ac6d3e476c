"""All processes share this data directory: storage, index, and the formats of both.

Content is in the modules `content` (the store as pulls and pushes use it), `blobs`, `repositories`,
`catalog`, `manifest`, `proofs`, `quarantine`, `unverified`. The modules `storage` and `index`
define the interfaces; `drivers` implements them. The modules `budget`, `reservations` and
`disk_space` account for disk space. The modules `layout`, `refs`, `globs`, `accesslog` and
`bounded_json` define names and formats. The modules `probe`, `rebuild` and `takeover` run at the
start and repair the data directory. Several modules use `locks` and `listings`; `errors` has the
exceptions.
"""
