"""The deterministic simulation: real engines, executors and recovery on virtual time and twins.

`python -m tests.simulation --seed N` runs one seed again and tells its story.
"""
