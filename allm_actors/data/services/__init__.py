"""Requests and responses other than chat: embeddings, moderation, speech, transcription, classification."""
