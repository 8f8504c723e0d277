map AT type 1 key 8 value 8
map events type 27 key 0 value 0
map lost type 2 key 4 value 16

kprobe:
    r0 = 0
    r6 = 0
    if r0 s>= 0x5 goto pc+3
    r6 += r0
    r0 += 1
    goto pc-4
    r1 = r10
    r1 += -8
    r2 = 0
    r3 = r6
    call kernel-function#-1  ; kfunc bpf_iter_num_new
    r1 = r10
    r1 += -8
    call kernel-function#-1  ; kfunc bpf_iter_num_next
    if r0 == 0x0 goto pc+27
    r0 = *(u32 *)(r0 +0)
    r0 <<= 32
    r0 s>>= 32
    *(u64 *)(r10 -16) = 1
    *(u64 *)(r10 -24) = r0
    r1 = map[id:0]  ; map AT
    r2 = r10
    r2 += -24
    call bpf_map_lookup_elem#1
    if r0 == 0x0 goto pc+2
    *(u64 *)(r0 +0) = 1
    goto pc-17
    r1 = map[id:0]  ; map AT
    r2 = r10
    r2 += -24
    r3 = r10
    r3 += -16
    r4 = 0
    call bpf_map_update_elem#2
    if r0 == 0x0 goto pc-26
    r0 = map[id:0][0]+0  ; data lost
    r1 = 1
    lock *(u64 *)(r0 +0) += r1
    goto pc-31
    r1 = r10
    r1 += -8
    call kernel-function#-1  ; kfunc bpf_iter_num_destroy
    if r6 s<= 0x3 goto pc+6
    r7 = r6
    r7 += -1
    if r6 == 0x6 goto pc+2
    r6 = r7
    goto pc-6
    r6 = r7
    r1 = map[id:0]  ; map events
    r2 = 16
    r3 = 0
    call bpf_ringbuf_reserve#131
    if r0 == 0x0 goto pc+7
    *(u64 *)(r0 +0) = 0
    *(u64 *)(r0 +8) = r6
    r1 = r0
    r2 = 0
    call bpf_ringbuf_submit#132
    r0 = 0
    exit
    r0 = map[id:0][0]+8  ; data lost+8
    r1 = 1
    lock *(u64 *)(r0 +0) += r1
    r0 = 0
    exit
