"""Who asks, and where does it go?"""
