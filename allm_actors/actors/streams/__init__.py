"""What a caller holds while a turn runs, and the back pressure between the two sides."""
