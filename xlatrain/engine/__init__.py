"""A run on a replica, from its first tensor to its folder."""
