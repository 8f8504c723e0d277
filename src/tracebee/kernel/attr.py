"""What the arguments of bpf(2) look like: ``union bpf_attr`` per command, and the info structures.

Field names are the kernel's (``include/uapi/linux/bpf.h``); a test compares every row with the
running kernel's BTF. Kernels older than a field accept the longer structure while the field is 0.
"""

from __future__ import annotations

from tracebee import uapi
from tracebee.kernel.layout import Layout

MAP_CREATE = Layout(
    "",
    96,
    (
        ("map_type", 0, "I"),
        ("key_size", 4, "I"),
        ("value_size", 8, "I"),
        ("max_entries", 12, "I"),
        ("map_flags", 16, "I"),
        ("inner_map_fd", 20, "I"),
        ("numa_node", 24, "I"),
        ("map_name", 28, "16s"),
        ("map_ifindex", 44, "I"),
        ("btf_fd", 48, "I"),
        ("btf_key_type_id", 52, "I"),
        ("btf_value_type_id", 56, "I"),
        ("btf_vmlinux_value_type_id", 60, "I"),
        ("map_extra", 64, "Q"),
        ("value_type_btf_obj_fd", 72, "i"),
        ("map_token_fd", 76, "i"),
        ("excl_prog_hash", 80, "Q"),
        ("excl_prog_hash_size", 88, "I"),
    ),
)

MAP_ELEMENT = Layout(
    "",
    32,
    (
        ("map_fd", 0, "I"),
        ("key", 8, "Q"),
        ("value", 16, "Q"),
        ("next_key", 16, "Q"),
        ("flags", 24, "Q"),
    ),
)

MAP_BATCH = Layout(
    "batch",
    56,
    (
        ("in_batch", 0, "Q"),
        ("out_batch", 8, "Q"),
        ("keys", 16, "Q"),
        ("values", 24, "Q"),
        ("count", 32, "I"),
        ("map_fd", 36, "I"),
        ("elem_flags", 40, "Q"),
        ("flags", 48, "Q"),
    ),
)

PROG_LOAD = Layout(
    "",
    168,
    (
        ("prog_type", 0, "I"),
        ("insn_cnt", 4, "I"),
        ("insns", 8, "Q"),
        ("license", 16, "Q"),
        ("log_level", 24, "I"),
        ("log_size", 28, "I"),
        ("log_buf", 32, "Q"),
        ("kern_version", 40, "I"),
        ("prog_flags", 44, "I"),
        ("prog_name", 48, "16s"),
        ("prog_ifindex", 64, "I"),
        ("expected_attach_type", 68, "I"),
        ("prog_btf_fd", 72, "I"),
        ("func_info_rec_size", 76, "I"),
        ("func_info", 80, "Q"),
        ("func_info_cnt", 88, "I"),
        ("line_info_rec_size", 92, "I"),
        ("line_info", 96, "Q"),
        ("line_info_cnt", 104, "I"),
        ("attach_btf_id", 108, "I"),
        ("attach_prog_fd", 112, "I"),
        ("attach_btf_obj_fd", 112, "I"),
        ("core_relo_cnt", 116, "I"),
        ("fd_array", 120, "Q"),
        ("core_relos", 128, "Q"),
        ("core_relo_rec_size", 136, "I"),
        ("log_true_size", 140, "I"),
        ("prog_token_fd", 144, "i"),
        ("fd_array_cnt", 148, "I"),
        ("signature", 152, "Q"),
        ("signature_size", 160, "I"),
        ("keyring_id", 164, "i"),
    ),
)

OBJECT = Layout(
    "",
    24,
    (
        ("pathname", 0, "Q"),
        ("bpf_fd", 8, "I"),
        ("file_flags", 12, "I"),
        ("path_fd", 16, "i"),
    ),
)

PROG_ATTACH = Layout(
    "",
    32,
    (
        ("target_fd", 0, "I"),
        ("target_ifindex", 0, "I"),
        ("attach_bpf_fd", 4, "I"),
        ("attach_type", 8, "I"),
        ("attach_flags", 12, "I"),
        ("replace_bpf_fd", 16, "I"),
        ("relative_fd", 20, "I"),
        ("relative_id", 20, "I"),
        ("expected_revision", 24, "Q"),
    ),
)

TEST_RUN = Layout(
    "test",
    80,
    (
        ("prog_fd", 0, "I"),
        ("retval", 4, "I"),
        ("data_size_in", 8, "I"),
        ("data_size_out", 12, "I"),
        ("data_in", 16, "Q"),
        ("data_out", 24, "Q"),
        ("repeat", 32, "I"),
        ("duration", 36, "I"),
        ("ctx_size_in", 40, "I"),
        ("ctx_size_out", 44, "I"),
        ("ctx_in", 48, "Q"),
        ("ctx_out", 56, "Q"),
        ("flags", 64, "I"),
        ("cpu", 68, "I"),
        ("batch_size", 72, "I"),
    ),
)

ID = Layout(
    "",
    16,
    (
        ("start_id", 0, "I"),
        ("prog_id", 0, "I"),
        ("map_id", 0, "I"),
        ("btf_id", 0, "I"),
        ("link_id", 0, "I"),
        ("next_id", 4, "I"),
        ("open_flags", 8, "I"),
        ("fd_by_id_token_fd", 12, "i"),
    ),
)

INFO = Layout(
    "info",
    16,
    (
        ("bpf_fd", 0, "I"),
        ("info_len", 4, "I"),
        ("info", 8, "Q"),
    ),
)

QUERY = Layout(
    "query",
    64,
    (
        ("target_fd", 0, "I"),
        ("target_ifindex", 0, "I"),
        ("attach_type", 4, "I"),
        ("query_flags", 8, "I"),
        ("attach_flags", 12, "I"),
        ("prog_ids", 16, "Q"),
        ("prog_cnt", 24, "I"),
        ("count", 24, "I"),
        ("prog_attach_flags", 32, "Q"),
        ("link_ids", 40, "Q"),
        ("link_attach_flags", 48, "Q"),
        ("revision", 56, "Q"),
    ),
)

RAW_TRACEPOINT = Layout(
    "raw_tracepoint",
    24,
    (
        ("name", 0, "Q"),
        ("prog_fd", 8, "I"),
        ("cookie", 16, "Q"),
    ),
)

BTF_LOAD = Layout(
    "",
    40,
    (
        ("btf", 0, "Q"),
        ("btf_log_buf", 8, "Q"),
        ("btf_size", 16, "I"),
        ("btf_log_size", 20, "I"),
        ("btf_log_level", 24, "I"),
        ("btf_log_true_size", 28, "I"),
        ("btf_flags", 32, "I"),
        ("btf_token_fd", 36, "i"),
    ),
)

TASK_FD_QUERY = Layout(
    "task_fd_query",
    48,
    (
        ("pid", 0, "I"),
        ("fd", 4, "I"),
        ("flags", 8, "I"),
        ("buf_len", 12, "I"),
        ("buf", 16, "Q"),
        ("prog_id", 24, "I"),
        ("fd_type", 28, "I"),
        ("probe_offset", 32, "Q"),
        ("probe_addr", 40, "Q"),
    ),
)

LINK_CREATE = Layout(
    "link_create",
    64,
    (
        ("prog_fd", 0, "I"),
        ("map_fd", 0, "I"),
        ("target_fd", 4, "I"),
        ("target_ifindex", 4, "I"),
        ("attach_type", 8, "I"),
        ("flags", 12, "I"),
        ("target_btf_id", 16, "I"),
        ("iter_info", 16, "Q"),
        ("iter_info_len", 24, "I"),
        ("perf_event_bpf_cookie", 16, "Q"),
        ("kprobe_multi_flags", 16, "I"),
        ("kprobe_multi_cnt", 20, "I"),
        ("kprobe_multi_syms", 24, "Q"),
        ("kprobe_multi_addrs", 32, "Q"),
        ("kprobe_multi_cookies", 40, "Q"),
        ("tracing_target_btf_id", 16, "I"),
        ("tracing_cookie", 24, "Q"),
        ("netfilter_pf", 16, "I"),
        ("netfilter_hooknum", 20, "I"),
        ("netfilter_priority", 24, "i"),
        ("netfilter_flags", 28, "I"),
        ("tcx_relative_fd", 16, "I"),
        ("tcx_relative_id", 16, "I"),
        ("tcx_expected_revision", 24, "Q"),
        ("uprobe_multi_path", 16, "Q"),
        ("uprobe_multi_offsets", 24, "Q"),
        ("uprobe_multi_ref_ctr_offsets", 32, "Q"),
        ("uprobe_multi_cookies", 40, "Q"),
        ("uprobe_multi_cnt", 48, "I"),
        ("uprobe_multi_flags", 52, "I"),
        ("uprobe_multi_pid", 56, "I"),
        ("netkit_relative_fd", 16, "I"),
        ("netkit_relative_id", 16, "I"),
        ("netkit_expected_revision", 24, "Q"),
        ("cgroup_relative_fd", 16, "I"),
        ("cgroup_relative_id", 16, "I"),
        ("cgroup_expected_revision", 24, "Q"),
    ),
)

LINK_UPDATE = Layout(
    "link_update",
    16,
    (
        ("link_fd", 0, "I"),
        ("new_prog_fd", 4, "I"),
        ("new_map_fd", 4, "I"),
        ("flags", 8, "I"),
        ("old_prog_fd", 12, "I"),
        ("old_map_fd", 12, "I"),
    ),
)

LINK_DETACH = Layout(
    "link_detach",
    4,
    (("link_fd", 0, "I"),),
)

ENABLE_STATS = Layout(
    "enable_stats",
    4,
    (("type", 0, "I"),),
)

ITER_CREATE = Layout(
    "iter_create",
    8,
    (
        ("link_fd", 0, "I"),
        ("flags", 4, "I"),
    ),
)

PROG_BIND_MAP = Layout(
    "prog_bind_map",
    12,
    (
        ("prog_fd", 0, "I"),
        ("map_fd", 4, "I"),
        ("flags", 8, "I"),
    ),
)

TOKEN_CREATE = Layout(
    "token_create",
    8,
    (
        ("flags", 0, "I"),
        ("bpffs_fd", 4, "I"),
    ),
)

PROG_STREAM_READ = Layout(
    "prog_stream_read",
    24,
    (
        ("stream_buf", 0, "Q"),
        ("stream_buf_len", 8, "I"),
        ("stream_id", 12, "I"),
        ("prog_fd", 16, "I"),
    ),
)

PROG_INFO = Layout(
    "bpf_prog_info",
    232,
    (
        ("type", 0, "I"),
        ("id", 4, "I"),
        ("tag", 8, "8s"),
        ("jited_prog_len", 16, "I"),
        ("xlated_prog_len", 20, "I"),
        ("jited_prog_insns", 24, "Q"),
        ("xlated_prog_insns", 32, "Q"),
        ("load_time", 40, "Q"),
        ("created_by_uid", 48, "I"),
        ("nr_map_ids", 52, "I"),
        ("map_ids", 56, "Q"),
        ("name", 64, "16s"),
        ("ifindex", 80, "I"),
        ("flags", 84, "I"),
        ("netns_dev", 88, "Q"),
        ("netns_ino", 96, "Q"),
        ("nr_jited_ksyms", 104, "I"),
        ("nr_jited_func_lens", 108, "I"),
        ("jited_ksyms", 112, "Q"),
        ("jited_func_lens", 120, "Q"),
        ("btf_id", 128, "I"),
        ("func_info_rec_size", 132, "I"),
        ("func_info", 136, "Q"),
        ("nr_func_info", 144, "I"),
        ("nr_line_info", 148, "I"),
        ("line_info", 152, "Q"),
        ("jited_line_info", 160, "Q"),
        ("nr_jited_line_info", 168, "I"),
        ("line_info_rec_size", 172, "I"),
        ("jited_line_info_rec_size", 176, "I"),
        ("nr_prog_tags", 180, "I"),
        ("prog_tags", 184, "Q"),
        ("run_time_ns", 192, "Q"),
        ("run_cnt", 200, "Q"),
        ("recursion_misses", 208, "Q"),
        ("verified_insns", 216, "I"),
        ("attach_btf_obj_id", 220, "I"),
        ("attach_btf_id", 224, "I"),
    ),
)

MAP_INFO = Layout(
    "bpf_map_info",
    104,
    (
        ("type", 0, "I"),
        ("id", 4, "I"),
        ("key_size", 8, "I"),
        ("value_size", 12, "I"),
        ("max_entries", 16, "I"),
        ("map_flags", 20, "I"),
        ("name", 24, "16s"),
        ("ifindex", 40, "I"),
        ("btf_vmlinux_value_type_id", 44, "I"),
        ("netns_dev", 48, "Q"),
        ("netns_ino", 56, "Q"),
        ("btf_id", 64, "I"),
        ("btf_key_type_id", 68, "I"),
        ("btf_value_type_id", 72, "I"),
        ("btf_vmlinux_id", 76, "I"),
        ("map_extra", 80, "Q"),
        ("hash", 88, "Q"),
        ("hash_size", 96, "I"),
    ),
)

LINK_INFO = Layout(
    "bpf_link_info",
    64,
    (
        ("type", 0, "I"),
        ("id", 4, "I"),
        ("prog_id", 8, "I"),
        ("raw_tracepoint_tp_name", 16, "Q"),
        ("raw_tracepoint_tp_name_len", 24, "I"),
        ("raw_tracepoint_cookie", 32, "Q"),
        ("tracing_attach_type", 16, "I"),
        ("tracing_target_obj_id", 20, "I"),
        ("tracing_target_btf_id", 24, "I"),
        ("tracing_cookie", 32, "Q"),
        ("cgroup_cgroup_id", 16, "Q"),
        ("cgroup_attach_type", 24, "I"),
        ("iter_target_name", 16, "Q"),
        ("iter_target_name_len", 24, "I"),
        ("iter_map_map_id", 28, "I"),
        ("iter_cgroup_cgroup_id", 32, "Q"),
        ("iter_cgroup_order", 40, "I"),
        ("iter_task_tid", 32, "I"),
        ("iter_task_pid", 36, "I"),
        ("netns_netns_ino", 16, "I"),
        ("netns_attach_type", 20, "I"),
        ("xdp_ifindex", 16, "I"),
        ("struct_ops_map_id", 16, "I"),
        ("netfilter_pf", 16, "I"),
        ("netfilter_hooknum", 20, "I"),
        ("netfilter_priority", 24, "i"),
        ("netfilter_flags", 28, "I"),
        ("kprobe_multi_addrs", 16, "Q"),
        ("kprobe_multi_count", 24, "I"),
        ("kprobe_multi_flags", 28, "I"),
        ("kprobe_multi_missed", 32, "Q"),
        ("kprobe_multi_cookies", 40, "Q"),
        ("uprobe_multi_path", 16, "Q"),
        ("uprobe_multi_offsets", 24, "Q"),
        ("uprobe_multi_ref_ctr_offsets", 32, "Q"),
        ("uprobe_multi_cookies", 40, "Q"),
        ("uprobe_multi_path_size", 48, "I"),
        ("uprobe_multi_count", 52, "I"),
        ("uprobe_multi_flags", 56, "I"),
        ("uprobe_multi_pid", 60, "I"),
        ("perf_event_type", 16, "I"),
        ("perf_event_uprobe_file_name", 24, "Q"),
        ("perf_event_uprobe_name_len", 32, "I"),
        ("perf_event_uprobe_offset", 36, "I"),
        ("perf_event_uprobe_cookie", 40, "Q"),
        ("perf_event_uprobe_ref_ctr_offset", 48, "Q"),
        ("perf_event_kprobe_func_name", 24, "Q"),
        ("perf_event_kprobe_name_len", 32, "I"),
        ("perf_event_kprobe_offset", 36, "I"),
        ("perf_event_kprobe_addr", 40, "Q"),
        ("perf_event_kprobe_missed", 48, "Q"),
        ("perf_event_kprobe_cookie", 56, "Q"),
        ("perf_event_tracepoint_tp_name", 24, "Q"),
        ("perf_event_tracepoint_name_len", 32, "I"),
        ("perf_event_tracepoint_cookie", 40, "Q"),
        ("perf_event_event_config", 24, "Q"),
        ("perf_event_event_type", 32, "I"),
        ("perf_event_event_cookie", 40, "Q"),
        ("tcx_ifindex", 16, "I"),
        ("tcx_attach_type", 20, "I"),
        ("netkit_ifindex", 16, "I"),
        ("netkit_attach_type", 20, "I"),
        ("sockmap_map_id", 16, "I"),
        ("sockmap_attach_type", 20, "I"),
    ),
)

BTF_INFO = Layout(
    "bpf_btf_info",
    32,
    (
        ("btf", 0, "Q"),
        ("btf_size", 8, "I"),
        ("id", 12, "I"),
        ("name", 16, "Q"),
        ("name_len", 24, "I"),
        ("kernel_btf", 28, "I"),
    ),
)

ATTR: dict[int, Layout] = {
    uapi.BPF_MAP_CREATE: MAP_CREATE,
    uapi.BPF_MAP_LOOKUP_ELEM: MAP_ELEMENT,
    uapi.BPF_MAP_UPDATE_ELEM: MAP_ELEMENT,
    uapi.BPF_MAP_DELETE_ELEM: MAP_ELEMENT,
    uapi.BPF_MAP_GET_NEXT_KEY: MAP_ELEMENT,
    uapi.BPF_PROG_LOAD: PROG_LOAD,
    uapi.BPF_OBJ_PIN: OBJECT,
    uapi.BPF_OBJ_GET: OBJECT,
    uapi.BPF_PROG_ATTACH: PROG_ATTACH,
    uapi.BPF_PROG_DETACH: PROG_ATTACH,
    uapi.BPF_PROG_TEST_RUN: TEST_RUN,
    uapi.BPF_PROG_GET_NEXT_ID: ID,
    uapi.BPF_MAP_GET_NEXT_ID: ID,
    uapi.BPF_PROG_GET_FD_BY_ID: ID,
    uapi.BPF_MAP_GET_FD_BY_ID: ID,
    uapi.BPF_OBJ_GET_INFO_BY_FD: INFO,
    uapi.BPF_PROG_QUERY: QUERY,
    uapi.BPF_RAW_TRACEPOINT_OPEN: RAW_TRACEPOINT,
    uapi.BPF_BTF_LOAD: BTF_LOAD,
    uapi.BPF_BTF_GET_FD_BY_ID: ID,
    uapi.BPF_TASK_FD_QUERY: TASK_FD_QUERY,
    uapi.BPF_MAP_LOOKUP_AND_DELETE_ELEM: MAP_ELEMENT,
    uapi.BPF_MAP_FREEZE: MAP_ELEMENT,
    uapi.BPF_BTF_GET_NEXT_ID: ID,
    uapi.BPF_MAP_LOOKUP_BATCH: MAP_BATCH,
    uapi.BPF_MAP_LOOKUP_AND_DELETE_BATCH: MAP_BATCH,
    uapi.BPF_MAP_UPDATE_BATCH: MAP_BATCH,
    uapi.BPF_MAP_DELETE_BATCH: MAP_BATCH,
    uapi.BPF_LINK_CREATE: LINK_CREATE,
    uapi.BPF_LINK_UPDATE: LINK_UPDATE,
    uapi.BPF_LINK_GET_FD_BY_ID: ID,
    uapi.BPF_LINK_GET_NEXT_ID: ID,
    uapi.BPF_ENABLE_STATS: ENABLE_STATS,
    uapi.BPF_ITER_CREATE: ITER_CREATE,
    uapi.BPF_LINK_DETACH: LINK_DETACH,
    uapi.BPF_PROG_BIND_MAP: PROG_BIND_MAP,
    uapi.BPF_TOKEN_CREATE: TOKEN_CREATE,
    uapi.BPF_PROG_STREAM_READ_BY_FD: PROG_STREAM_READ,
}
