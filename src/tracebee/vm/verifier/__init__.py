"""The verifier: abstract interpretation of BPF programs with the kernel's domains and rules.

``from tracebee.vm.verifier import verify, verify_insns, Verdict``.
"""

from tracebee.vm.verifier.verify import Verdict, verify, verify_insns

__all__ = ["Verdict", "verify", "verify_insns"]
