"""Headless work: reports, synchronisation, the command line."""
