"""OpenAI's two endpoints of chat, which many others have, too, and its other services."""
