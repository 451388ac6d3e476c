"""Copy everything that one storage keeps to another storage, of any two drivers.

| module | contents |
|---|---|
| `command` | `entrepot migrate`: arguments, signals, exit codes |
| `places` | opens source and target, and refuses those that an appliance uses |
| `migration` | the order of the steps |
| `stock` | a temporary database of what source and target have, so that memory stays small |
| `copying` | copies one blob or one small value, and verifies it |
| `values` | selects links, tags and other small values, with their times |
| `rows` | last uses, manifests and pins in the target's index |
| `workers` | threads for requests that wait for a disk or a network |
| `progress`, `report` | what the operator sees |

Content is copied before its links, and links before tags. So a target that a migration left
unfinished has no link without content, and the next run copies the rest.
"""
