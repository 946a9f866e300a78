"""Measurements of this library beside its peers. See README.md."""
