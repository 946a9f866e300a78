"""Ollama's own API, which offers more than its imitation of OpenAI's."""
