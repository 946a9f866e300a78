"""What is not chat: the questions and the answers of embeddings, moderation, speech, transcription, classification."""
