"""Connects the queue to component services: streams, credit, routing, acks."""
