import pytest

from tracebee import uapi
from tracebee.btf.reader import Btf
from tracebee.isa.helpers import BY_NAME
from tracebee.vm.verifier.contexts import SK_BUFF, XDP_MD, Field, contexts
from tracebee.vm.verifier.helper_sets import allowed


@pytest.mark.needs("btf")
@pytest.mark.parametrize(("struct", "fields"), [("__sk_buff", SK_BUFF), ("xdp_md", XDP_MD)])
def test_fields_are_the_kernels(struct: str, fields: tuple[Field, ...]) -> None:
    btf = Btf.vmlinux()
    layout = btf.struct(f"struct {struct}")
    for field in fields:
        member = btf.member_path(layout.id, field.name)
        assert (member.bit_offset // 8, btf.size(member.type_id)) == (field.offset, field.size), field.name


@pytest.mark.needs("btf")
def test_sizes_are_the_kernels() -> None:
    btf = Btf.vmlinux()
    known = contexts()
    for program_type, struct in (
        (uapi.BPF_PROG_TYPE_SOCKET_FILTER, "__sk_buff"),
        (uapi.BPF_PROG_TYPE_XDP, "xdp_md"),
        (uapi.BPF_PROG_TYPE_KPROBE, "pt_regs"),
        (uapi.BPF_PROG_TYPE_PERF_EVENT, "bpf_perf_event_data"),
    ):
        size = btf.struct(f"struct {struct}").size
        # A program may not touch fields that newer kernels have added at the end.
        assert known[program_type].size <= size, struct


def test_helpers_of_program_types() -> None:
    assert allowed(uapi.BPF_PROG_TYPE_KPROBE, BY_NAME["probe_read_kernel"].number)
    assert allowed(uapi.BPF_PROG_TYPE_XDP, BY_NAME["xdp_adjust_head"].number)
    assert not allowed(uapi.BPF_PROG_TYPE_KPROBE, BY_NAME["xdp_adjust_head"].number)
    assert not allowed(uapi.BPF_PROG_TYPE_SOCKET_FILTER, BY_NAME["get_stackid"].number)
