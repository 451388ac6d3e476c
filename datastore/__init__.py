"""Read and write the data directory, which all processes of the appliance share.

| modules | contents |
|---|---|
| `content` | the store that pulls and pushes use |
| `blobs`, `repositories`, `links`, `catalog`, `manifest` | content, and its names: tags and links |
| `proofs` | records of which upstream has sent which content |
| `quarantine`, `unverified` | damaged content; content that was not verified on the disk yet |
| `storage`, `index` | the protocols that the package `drivers` implements |
| `owned`, `snapshot` | a storage that several appliances can reach; the copy of the index in it |
| `budget`, `reservations`, `disk_space` | size limits, reserved bytes, free bytes of the disk |
| `layout`, `refs`, `globs` | keys and file names; digests and tags; patterns of names |
| `accesslog`, `request_line`, `bounded_json` | formats of the logs; JSON from other programs |
| `probe`, `rebuild`, `bucket_rebuild`, `takeover` | checks and repairs of the data directory |
| `locks`, `listings`, `errors` | file locks, cached lists of folders, exceptions |
"""
