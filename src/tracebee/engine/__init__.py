"""Loads an object, attaches its probes, drains its events."""
