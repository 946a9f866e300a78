"""What ElevenLabs speaks and hears."""
