"""Machines of Google Cloud for a run: asked for, set up, followed, paid for, and given back."""
