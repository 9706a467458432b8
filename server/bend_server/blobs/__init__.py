"""obstore adapter of the blob port, and its in-memory twin."""
