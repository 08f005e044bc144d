"""Gateway: the reverse proxy of the node, with admission control and usage accounting."""
