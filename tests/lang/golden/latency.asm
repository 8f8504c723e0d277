map ns type 6 key 4 value 520
map start type 1 key 4 value 8
map lost type 2 key 4 value 8

kprobe:
    call bpf_ktime_get_boot_ns#125
    *(u64 *)(r10 -8) = r0
    call bpf_get_current_pid_tgid#14
    *(u32 *)(r10 -16) = r0
    r1 = map[id:0]  ; map start
    r2 = r10
    r2 += -16
    r3 = r10
    r3 += -8
    r4 = 0
    call bpf_map_update_elem#2
    if r0 == 0x0 goto pc+4
    r0 = map[id:0][0]+0  ; data lost
    r1 = 1
    lock *(u64 *)(r0 +0) += r1
    r0 = 0
    exit

kretprobe:
    call bpf_get_current_pid_tgid#14
    *(u32 *)(r10 -8) = r0
    r1 = map[id:0]  ; map start
    r2 = r10
    r2 += -8
    call bpf_map_lookup_elem#1
    r6 = r0
    if r6 == 0x0 goto pc+52
    r0 = *(u64 *)(r6 +0)
    if r0 == 0x0 goto pc+50
    call bpf_ktime_get_boot_ns#125
    r7 = r0
    r6 = *(u64 *)(r6 +0)
    r8 = r7
    r8 -= r6
    *(u32 *)(r10 -12) = 0
    r1 = map[id:0]  ; map ns
    r2 = r10
    r2 += -12
    call bpf_map_lookup_elem#1
    if r0 == 0x0 goto pc+31
    if r8 s>= 0x0 goto pc+2
    r1 = 0
    goto pc+23
    if r7 != r6 goto pc+2
    r1 = 1
    goto pc+20
    r1 = r8
    r1 >>= 32
    if r1 == 0x0 goto pc+2
    r8 = r1
    r1 = 32
    if r8 < 0x10000 goto pc+2
    r8 >>= 16
    r1 += 16
    if r8 < 0x100 goto pc+2
    r8 >>= 8
    r1 += 8
    if r8 < 0x10 goto pc+2
    r8 >>= 4
    r1 += 4
    if r8 < 0x4 goto pc+2
    r8 >>= 2
    r1 += 2
    if r8 < 0x2 goto pc+1
    r1 += 1
    r1 += 2
    r1 <<= 3
    r0 += r1
    r1 = *(u64 *)(r0 +0)
    r1 += 1
    *(u64 *)(r0 +0) = r1
    r1 = map[id:0]  ; map start
    r2 = r10
    r2 += -8
    call bpf_map_delete_elem#3
    r0 = 0
    exit
    r0 = 0
    exit
