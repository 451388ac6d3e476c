"""Copy all content of one storage to another storage, from any driver to any driver.

| module | contents |
|---|---|
| `command` | the command `entrepot migrate`: arguments, signals, exit codes |
| `places` | opens source and target, and refuses those that an appliance uses |
| `migration` | runs the steps in order |
| `stock` | a temporary database that lists the content of source and target |
| `copying` | copies one small value, or copies one blob and verifies its digest |
| `values` | selects the links, tags and other small values to copy |
| `rows` | writes last uses, manifests and pins into the target's index |
| `workers` | threads for the requests to disks and networks |
| `progress`, `report` | the output for the operator |

Content is copied before its links, and links before tags. So even an unfinished migration leaves no
link without content in the target, and the next run copies the rest.
"""
