"""Store values as the objects of one bucket, in any service that the library obstore can use.

| module | contents |
|---|---|
| `setup` | connects the parts for the configured driver |
| `storage` | `ObjectStorage`: the storage that the appliance uses |
| `object_service` | what differs between the services that store objects |
| `tls` | the keys of every driver for the certificate of its service |
| `proxy` | the proxy for requests to the storage |
| `client` | `ObjectClient`: single requests, their repetition, and the circuit |
| `sending` | sends a local file in parts, also while the file grows |
| `part_memory` | bounds the memory of these parts |
| `file` | an open object as a seekable file |
| `journal` | what the bucket has, for all processes of one appliance |
| `journal_file` | the SQLite file of the journal |
| `snapshots` | the objects of the snapshot of the index |
| `kept` | local copies of values that a late removal may take away |
| `owner` | the claim on the bucket: one appliance at a time writes |
| `check` | the requests that a start and `entrepot check` try |
"""
