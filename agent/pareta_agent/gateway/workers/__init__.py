"""Workers: gateway processes beside the main one, and the messages between them."""
