"""What the rooms need of the world: clock, chance, store, queue, blobs. Adapters implement it."""
