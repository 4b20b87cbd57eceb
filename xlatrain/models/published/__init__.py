"""Models of the papers that timm does not have."""
