"""The budget: over all replicas, connections open to an upstream never exceed it. docs/explanation/ledger.md draws it.

| room | decides |
|---|---|
| `ledger` | what is recorded, and which changes one write may make |
| `shares` | who should have how much: policy, which safety does not rest on |
| `proofs` | who is dead, and what the dead have left |
| `rebuild` | what to do when the record is missing or older than the world |
| `decide` | the four of them in order: one look at the world in, one write out |
| `replica` | the other side: a replica's memory, which grants it takes, what it answers |
| `record` | the ledger as plain JSON, for the resource's status |

All of it is pure: values in, values out; time is an argument.
"""
