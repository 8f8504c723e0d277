"""Addresses to names: of the kernel, of programs and libraries, of code made at run time.

``Symbolizer`` answers for a whole machine; the modules below it each know one source of names.
"""
