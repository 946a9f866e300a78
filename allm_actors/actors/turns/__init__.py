"""One turn: from what a caller typed to the machine that decides, the workers it sets to work, and its end."""
