"""Components, versions, contracts, live instances."""
