"""Node: the composition root and the parts of one node (deployment, sleep, status, hot restart)."""
