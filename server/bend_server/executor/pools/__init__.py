"""Pools of component instances: started, watched, scaled and stopped by one executor."""
