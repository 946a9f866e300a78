"""Providers over the network: what is asked and answered, attempt by attempt, in whichever dialect a row names."""
