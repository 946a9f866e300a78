"""Ollama's own API, which says more than the one that it has of OpenAI's."""
