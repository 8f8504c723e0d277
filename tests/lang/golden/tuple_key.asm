map AT type 5 key 24 value 16
map lost type 2 key 4 value 8

kprobe:
    r6 = r1
    r7 = *(u64 *)(r6 +8)
    *(u8 *)(r10 -17) = 0
    call bpf_get_current_pid_tgid#14
    r0 >>= 32
    *(u32 *)(r10 -24) = r0
    *(u16 *)(r10 -20) = 25185
    *(u8 *)(r10 -18) = 0
    r0 = *(u64 *)(r6 +0)
    *(u64 *)(r10 -16) = r0
    *(u64 *)(r10 -8) = 1
    r1 = map[id:0]  ; map AT
    r2 = r10
    r2 += -24
    call bpf_map_lookup_elem#1
    if r0 == 0x0 goto pc+8
    r1 = *(u64 *)(r0 +8)
    if r1 == 0x0 goto pc+2
    r1 = *(u64 *)(r0 +0)
    if r7 <= r1 goto pc+19
    *(u64 *)(r0 +0) = r7
    *(u64 *)(r0 +8) = 1
    r0 = 0
    exit
    *(u64 *)(r10 -40) = r7
    *(u64 *)(r10 -32) = 1
    r1 = map[id:0]  ; map AT
    r2 = r10
    r2 += -24
    r3 = r10
    r3 += -40
    r4 = 0
    call bpf_map_update_elem#2
    if r0 == 0x0 goto pc+4
    r0 = map[id:0][0]+0  ; data lost
    r1 = 1
    lock *(u64 *)(r0 +0) += r1
    r0 = 0
    exit
