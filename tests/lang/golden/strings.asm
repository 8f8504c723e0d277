map AT type 5 key 16 value 8
map lost type 2 key 4 value 8

kprobe:
    r3 = *(u64 *)(r1 +0)
    *(u64 *)(r10 -16) = 0
    *(u64 *)(r10 -8) = 0
    r1 = r10
    r1 += -16
    r2 = 16
    call bpf_probe_read_kernel_str#115
    if r0 != 0x10 goto pc+1
    *(u8 *)(r10 -1) = 255
    r0 = *(u32 *)(r10 -16)
    if r0 == 0x636261 goto pc+10
    r0 = 0
    if r0 s>= 0xe goto pc+40
    r1 = r10
    r1 += -16
    r1 += r0
    r2 = *(u8 *)(r1 +0)
    if r2 != 0x78 goto pc+32
    r1 = *(u8 *)(r1 +1)
    if r1 != 0x79 goto pc+28
    if r0 s< 0x0 goto pc+32
    r1 = map[id:0]  ; map AT
    r2 = r10
    r2 += -16
    call bpf_map_lookup_elem#1
    if r0 == 0x0 goto pc+5
    r1 = *(u64 *)(r0 +0)
    r1 += 1
    *(u64 *)(r0 +0) = r1
    r0 = 0
    exit
    *(u64 *)(r10 -24) = 1
    r1 = map[id:0]  ; map AT
    r2 = r10
    r2 += -16
    r3 = r10
    r3 += -24
    r4 = 0
    call bpf_map_update_elem#2
    if r0 == 0x0 goto pc+11
    r0 = map[id:0][0]+0  ; data lost
    r1 = 1
    lock *(u64 *)(r0 +0) += r1
    r0 = 0
    exit
    if r1 != 0x0 goto pc+2
    goto pc+3
    if r2 == 0x0 goto pc+2
    r0 += 1
    goto pc-41
    r0 = 0
    exit
