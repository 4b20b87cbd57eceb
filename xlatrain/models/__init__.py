"""timm models, and what XLA needs changed in them."""
