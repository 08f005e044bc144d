"""Local: opens the embedded plane's database and the node's spool for commands."""
