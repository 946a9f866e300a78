"""The actors that do one job at a time: a model call, a tool, a user function."""
