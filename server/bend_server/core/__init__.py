"""The pure core: plan, decide, evolve. No I/O, no clock, no chance, no protobuf."""
