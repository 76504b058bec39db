"""Networks whose features are a space to compare images in."""
