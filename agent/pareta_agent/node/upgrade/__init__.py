"""Hot restart: hands a running node over to the next agent of the same home."""
