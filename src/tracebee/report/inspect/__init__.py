"""Loaded programs, maps, links and types, as ``bpftool`` describes them: records for JSON, and text."""
