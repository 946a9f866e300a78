"""What a value must be before it is sent, and what is said of one that is not."""
