"""An evaluation looked at closely: by class, by confidence, and image by image where it is wrong."""
