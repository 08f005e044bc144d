"""Control plane: orgs, keys, desired state, ledger, and the public API."""
