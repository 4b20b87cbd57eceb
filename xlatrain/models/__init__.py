"""timm models, or one's own, and what XLA needs changed in them."""
