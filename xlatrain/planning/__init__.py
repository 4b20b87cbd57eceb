"""A pod without one: its program, its network, what a run takes and costs."""
