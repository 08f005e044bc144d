"""Install: makes the engine's own interpreter from a committed list of packages."""
