"""Walking and folding stacks."""
