"""Addresses to names."""
