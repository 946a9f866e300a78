"""Pure decisions: what a run does next, what the outcome of a tool means, what a session may do."""
