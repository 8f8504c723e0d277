map AT type 5 key 16 value 8
map lost type 2 key 4 value 8

kprobe:
    r1 = r10
    r1 += -16
    r2 = 16
    call bpf_get_current_comm#16
    r0 = *(u64 *)(r10 -16)
    if r0 != 0x68736162 goto pc+27
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
    if r0 == 0x0 goto pc+6
    r0 = map[id:0][0]+0  ; data lost
    r1 = 1
    lock *(u64 *)(r0 +0) += r1
    r0 = 0
    exit
    r0 = 0
    exit
