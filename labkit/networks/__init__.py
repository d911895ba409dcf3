"""Networks as chains, with the initialisations that the theory speaks about."""
