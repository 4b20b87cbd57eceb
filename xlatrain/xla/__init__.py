"""The seam: the only folder that imports torch_xla, or runs a step by jax (a test keeps it so).

A step is traced by torch_xla (trace, guard). What runs it is a runtime, of which `replica` says what it does: torch_xla
itself (torch_xla_*), or JAX's (jax_*), an extra that is imported when it is asked for. `launch` starts either.
"""
