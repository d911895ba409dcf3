"""Data sets, and the loop that trains on them."""
