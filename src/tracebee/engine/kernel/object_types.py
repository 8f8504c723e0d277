"""An object's types in the kernel, also in one that has not all kinds of them."""

from __future__ import annotations

from errno import EINVAL

from tracebee.errors import KernelError
from tracebee.kernel.btf import Btf


def load_types(data: bytes) -> tuple[Btf, frozenset[str]]:
    """Load types; where the kernel refuses them, in the words that it has.

    :returns: what the kernel holds, and what it lacks, by the names of ``btf.sanitise.FEATURES``.
    :raises KernelError: refused for another reason; VerifierError where the kernel says which.
    """
    try:
        return Btf.load(data), frozenset()
    except KernelError as error:
        if error.errno != EINVAL:
            raise
        from tracebee.btf.sanitise import without

        lacking = lacking_features()
        if not lacking:
            raise
        return Btf.load(without(data, lacking)), lacking


def lacking_features() -> frozenset[str]:
    """What this kernel does not take in types: found out by trying."""
    from tracebee.btf.sanitise import FEATURES, sample

    lacking = set()
    for feature in FEATURES:
        loaded = Btf.try_load(sample(feature))
        if loaded is None:
            lacking.add(feature.name)
        else:
            loaded.close()
    return frozenset(lacking)
