"""Memory: bytes and tokens of one rank, computed and measured."""
