"""Event sources, one module each."""
