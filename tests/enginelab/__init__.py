"""A lab that kills, freezes and stops engines, and looks at what is left of them."""
