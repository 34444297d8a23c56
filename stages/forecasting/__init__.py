"""Networks that forecast poses.

sequences    sequences of Penn Action frames, and the hourglass in two halves
"""
