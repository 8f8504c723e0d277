"""Loads an object, attaches its probes, drains its events: one interface (``api``), one package an engine."""
