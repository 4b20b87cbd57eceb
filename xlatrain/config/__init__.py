"""The schema of conf/ and its composition."""
