"""Store values as the objects of one bucket, in any service that the library obstore can use.

| module | contents |
|---|---|
| `setup` | creates and connects the classes of these modules for the configured driver |
| `storage` | `ObjectStorage`: the storage that the appliance uses |
| `object_service` | the differences between the services that store objects |
| `tls` | the settings with which a driver verifies the certificate of its service |
| `proxy` | chooses the HTTP proxy for requests to the storage |
| `client` | `ObjectClient`: sends single requests, and repeats a failed request |
| `circuit` | circuit breaker: suspends requests to a storage that does not respond |
| `requests` | reports each request, for the metrics |
| `sending` | sends a local file in parts, even while another thread appends to the file |
| `part_memory` | limits the memory that these parts use |
| `file` | an open object as a seekable file |
| `journal` | remembers what the bucket has, for all processes of one appliance |
| `journal_file` | the SQLite file of the journal |
| `snapshots` | the objects of the snapshot of the index |
| `kept` | local copies of values that a late removal request may still delete |
| `owner` | the claim on the bucket, so that only one appliance at a time writes |
| `check` | tries the requests when the appliance starts, and for `entrepot check` |
"""
