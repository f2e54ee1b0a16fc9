"""Open camera models as worlds: one module for each."""
