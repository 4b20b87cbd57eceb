"""A run's steps as a folder that runs without xlatrain and without torch: written, read and checked."""
