"""API: the routes, request bodies, dialects and errors that callers meet."""
