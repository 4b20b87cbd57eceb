"""What runs came to, as a page: read from their folders, while they go on or after."""
