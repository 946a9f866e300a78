"""One turn: its checked options, the machine that decides, the workers that act for it, and its end."""
