"""The command line: the verbs and nothing else."""
