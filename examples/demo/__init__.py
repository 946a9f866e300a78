"""The demo: `make demo`, or `python -m examples.demo`. Everything it says it has seen, and checked."""
