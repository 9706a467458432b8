"""Components, their contracts by version, and who serves them now."""
