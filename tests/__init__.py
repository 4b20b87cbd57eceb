"""Before anything is imported: the workers of a run of tests fill the cores; threads of each would wait for one
another, and torch and numpy ask for theirs when they are imported."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"
