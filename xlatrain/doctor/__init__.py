"""What is wrong with a machine, before a run: each check on its own, no device held, no torch imported."""
