"""Control: the node's side of the control plane: heartbeat and lease, desired state, usage delivery, credit."""
