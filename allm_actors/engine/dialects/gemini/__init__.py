"""Gemini's generateContent, for chat, images and transcription, and its embeddings."""
