"""Status: reports, gauges and the admin socket of a node."""
