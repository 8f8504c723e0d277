"""Stacks: reading them from the maps that programs keep them in, printing and folding them."""
