"""Checkpoints as files: tensors by name and what is known of them, written whole or not at all, read when sound."""
