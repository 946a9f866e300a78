"""Calls that are not chat: pictures, embeddings, speech and their like, attempt by attempt."""
