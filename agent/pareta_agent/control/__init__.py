"""What is wanted, and what do I tell?"""
