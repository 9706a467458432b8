"""Yesterday's histories must replay today: rows as stored by a release, and what they meant."""
