"""The commands an operator types; each module is one command, and the composition is here."""
