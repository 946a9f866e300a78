"""ElevenLabs' speech and transcription."""
