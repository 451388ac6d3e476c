"""Read and write the data directory, which all processes share: storage, index, their formats.

| modules | contents |
|---|---|
| `content` | the store that pulls and pushes use |
| `blobs`, `repositories`, `links`, `catalog`, `manifest` | content, and the names that lead to it |
| `proofs`, `quarantine`, `unverified` | which upstreams sent content; damaged and unread content |
| `storage`, `index` | the interfaces, which `drivers` implements |
| `owned`, `snapshot` | a storage that several appliances can reach, and the index's copy in it |
| `budget`, `reservations`, `disk_space` | disk space |
| `layout`, `refs`, `globs`, `accesslog`, `request_line`, `bounded_json` | names and formats |
| `probe`, `rebuild`, `bucket_rebuild`, `takeover` | checks and repairs of the data directory |
| `locks`, `listings`, `errors` | file locks, cached lists of folders, exceptions |
"""
