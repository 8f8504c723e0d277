"""What a person or a program reads: bpftrace's text, JSON, and Python values.

``Reporter`` (in ``reporter``) turns event records and maps into output; ``decode`` turns the bytes
of any script type into Python values. An engine hands over its maps as ``MapReader`` objects.
"""
