"""The embedded mesh on one machine: `bend up` and what belongs to it."""
