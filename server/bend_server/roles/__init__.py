"""What a server process does: each role puts the rooms together that it needs, and serves them."""
