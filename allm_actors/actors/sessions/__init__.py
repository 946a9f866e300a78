"""The actors that own conversations: what is asked of one, how it is reached, and how its users hold it."""
