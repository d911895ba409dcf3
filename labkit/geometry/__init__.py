"""Pointwise geometry of a linearization: metric and spectra."""
