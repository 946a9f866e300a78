"""Decisions only: what a run does next, what a tool's end means, what a session may do."""
