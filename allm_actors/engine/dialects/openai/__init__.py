"""OpenAI's two chat endpoints, which many other servers imitate, and its other services."""
