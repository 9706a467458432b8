"""NATS JetStream adapter of the queue port, and its in-memory twin."""
