"""Event sources, one module each: how a kind is spelled, expanded, read from its context, attached.

A kind's module has three functions, so that adding a kind is one row of ``kinds.KINDS`` and one file::

    expand(point, machine, uses) -> list[Group]   # attach point -> groups of targets, cookies not yet given
    attach(program, targets, session) -> Iterator # attaches one after the other; yields owned links
    listing(machine, pattern) -> Iterator[Listed] # what ``-l`` prints
"""
