"""From an encoded image to the pixels that the model sees."""
