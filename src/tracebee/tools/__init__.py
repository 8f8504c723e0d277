"""Ready scripts, every one runnable by name."""
