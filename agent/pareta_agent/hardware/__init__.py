"""Hardware: reads the node's GPUs, cores and memory, and their faults."""
