map AT type 5 key 16 value 520
map lost type 2 key 4 value 8
map rodata type 2 key 4 value 520

tracepoint:
    r6 = *(u64 *)(r1 +16)
    r1 = r10
    r1 += -16
    r2 = 16
    call bpf_get_current_comm#16
    r7 = 0
    r1 = map[id:0]  ; map AT
    r2 = r10
    r2 += -16
    call bpf_map_lookup_elem#1
    if r0 == 0x0 goto pc+33
    if r6 s>= 0x0 goto pc+2
    r1 = 0
    goto pc+23
    if r6 != 0x0 goto pc+2
    r1 = 1
    goto pc+20
    r1 = r6
    r1 >>= 32
    if r1 == 0x0 goto pc+2
    r6 = r1
    r1 = 32
    if r6 < 0x10000 goto pc+2
    r6 >>= 16
    r1 += 16
    if r6 < 0x100 goto pc+2
    r6 >>= 8
    r1 += 8
    if r6 < 0x10 goto pc+2
    r6 >>= 4
    r1 += 4
    if r6 < 0x4 goto pc+2
    r6 >>= 2
    r1 += 2
    if r6 < 0x2 goto pc+1
    r1 += 1
    r1 += 2
    r1 <<= 3
    r0 += r1
    r1 = *(u64 *)(r0 +0)
    r1 += 1
    *(u64 *)(r0 +0) = r1
    r0 = 0
    exit
    if r7 == 0x0 goto pc+6
    r0 = map[id:0][0]+0  ; data lost
    r1 = 1
    lock *(u64 *)(r0 +0) += r1
    r0 = 0
    exit
    r1 = map[id:0]  ; map AT
    r2 = r10
    r2 += -16
    r3 = map[id:0][0]+0  ; data rodata
    r4 = 1
    call bpf_map_update_elem#2
    r7 = 1
    goto pc-56
