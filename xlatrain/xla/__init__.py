"""The seam: the only folder that imports torch_xla (a test keeps it so).

What torch_xla 2.9 needs to run N replicas with real collectives in one CPU process, and what a captured step is
made of, lives here and nowhere else. Another back-end is another folder with these names.
"""
