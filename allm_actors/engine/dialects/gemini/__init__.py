"""Gemini's generateContent, for whatever is made by it, and its embeddings."""
