"""ASGI: the routes that are not inference, and the proxy to the control plane."""
