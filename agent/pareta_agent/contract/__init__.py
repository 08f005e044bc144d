"""Contract: the values that node, gateway and control plane share."""
