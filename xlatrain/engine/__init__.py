"""A run: started by the parent process, built, trained and evaluated on replicas, written to its folder."""
