"""What a run tells: its files, and the person watching."""
