"""Adapters for providers over the network: requests, answers and retries, in the dialect that a row names."""
