"""Are the bytes here?"""
