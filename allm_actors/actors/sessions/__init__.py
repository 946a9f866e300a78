"""The actors that own conversations: their requests, how they are reached, and the handles of their users."""
