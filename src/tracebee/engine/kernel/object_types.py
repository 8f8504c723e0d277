"""An object's types in the kernel, also in one that has not all kinds of them."""

from __future__ import annotations

from errno import EINVAL

from tracebee.errors import KernelError
from tracebee.kernel.btf import Btf


def load_reduced(
    data: bytes, refusal: KernelError, *, needed: bool = True
) -> tuple[Btf | None, frozenset[str]]:
    """Load types that the kernel has refused as they are, in the words that it has.

    :param needed: whether the object can do nothing without types.
    :returns: what the kernel holds, None when it takes none of it; and what it lacks, by the names of
        ``btf.sanitise.FEATURES``.
    :raises KernelError: ``refusal``, when it was for another reason and the types are needed.
    """
    from tracebee.btf.sanitise import without

    lacking = lacking_features() if refusal.errno == EINVAL else frozenset()
    try:
        if not lacking:
            raise refusal
        return Btf.load(without(data, lacking)), lacking
    except KernelError:
        if needed:
            raise
        return None, lacking


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
