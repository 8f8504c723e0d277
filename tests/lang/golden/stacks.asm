map AT type 5 key 32 value 8
map lost type 2 key 4 value 16
map stacks_5 type 7 key 4 value 40
map stacks type 7 key 4 value 1016
map stacks_more type 1 key 1016 value 8
map scalars type 2 key 4 value 8
map scratch type 6 key 4 value 1016

kprobe:
    r6 = r1
    r1 = r6
    r2 = map[id:0]  ; map stacks
    r3 = 0
    call bpf_get_stackid#27
    if r0 s>= 0x0 goto pc+5
    r1 = r6
    r2 = r0
    r3 = 1016
    r4 = 0
    call pc-1  ; call more_stacks
    *(u64 *)(r10 -32) = r0
    *(u64 *)(r10 -24) = 0
    r1 = r6
    r2 = map[id:0]  ; map stacks_5
    r3 = 256
    call bpf_get_stackid#27
    if r0 s>= 0x0 goto pc+5
    r1 = r6
    r2 = r0
    r3 = 40
    r4 = 256
    call pc-1  ; call more_stacks
    *(u64 *)(r10 -16) = r0
    call bpf_get_current_pid_tgid#14
    r0 >>= 32
    *(u64 *)(r10 -8) = r0
    r1 = map[id:0]  ; map AT
    r2 = r10
    r2 += -32
    call bpf_map_lookup_elem#1
    if r0 == 0x0 goto pc+5
    r1 = *(u64 *)(r0 +0)
    r1 += 1
    *(u64 *)(r0 +0) = r1
    r0 = 0
    exit
    *(u64 *)(r10 -40) = 1
    r1 = map[id:0]  ; map AT
    r2 = r10
    r2 += -32
    r3 = r10
    r3 += -40
    r4 = 0
    call bpf_map_update_elem#2
    if r0 == 0x0 goto pc+4
    r0 = map[id:0][0]+8  ; data lost+8
    r1 = 1
    lock *(u64 *)(r0 +0) += r1
    r0 = 0
    exit

more_stacks:
    r6 = r1
    r7 = r3
    r8 = r4
    if r2 != 0xffffffef goto pc+58
    *(u32 *)(r10 -12) = 0
    r1 = map[id:0]  ; map scratch
    r2 = r10
    r2 += -12
    call bpf_map_lookup_elem#1
    r9 = r0
    if r9 == 0x0 goto pc+48
    r1 = r9
    r2 = 1016
    r3 = 0
    call bpf_probe_read_kernel#113
    r1 = r6
    r2 = r9
    r3 = r7
    r4 = r8
    call bpf_get_stack#67
    if r0 s<= 0x0 goto pc+40
    r1 = map[id:0]  ; map stacks_more
    r2 = r9
    call bpf_map_lookup_elem#1
    if r0 == 0x0 goto pc+2
    r0 = *(u64 *)(r0 +0)
    exit
    r0 = map[id:0][0]+0  ; data scalars
    r1 = 1
    r1 = atomic64_fetch_add((u64 *)(r0 +0), r1)
    r6 = -1
    r6 -= r1
    *(u64 *)(r10 -8) = r6
    r1 = map[id:0]  ; map stacks_more
    r2 = r9
    r3 = r10
    r3 += -8
    r4 = 1
    call bpf_map_update_elem#2
    if r0 == 0x0 goto pc+14
    r1 = map[id:0]  ; map stacks_more
    r2 = r9
    call bpf_map_lookup_elem#1
    if r0 == 0x0 goto pc+2
    r0 = *(u64 *)(r0 +0)
    exit
    r0 = map[id:0][0]+0  ; data lost
    r1 = 1
    lock *(u64 *)(r0 +0) += r1
    r0 = 0x8000000000000000
    exit
    r0 = r6
    exit
    r0 = 0
    exit
    r0 = 0x8000000000000000
    exit
