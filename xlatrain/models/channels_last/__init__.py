"""Layers for XLA:CPU, computed on [N, H, W, C] whatever the model says: no pass over memory is strided, and sums over
pixels are matrix products."""
