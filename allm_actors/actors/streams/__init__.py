"""What a caller holds while a turn runs, and how the two sides keep pace."""
