map events type 27 key 0 value 0
map lost type 2 key 4 value 8

kprobe:
    r6 = *(u64 *)(r1 +0)
    r1 = map[id:0]  ; map events
    r2 = 24
    r3 = 0
    call bpf_ringbuf_reserve#131
    r7 = r0
    if r7 == 0x0 goto pc+37
    *(u64 *)(r7 +0) = 0
    r3 = r6
    r3 += 8
    r1 = r10
    r1 += -8
    r2 = 8
    call bpf_probe_read_kernel#113
    r3 = *(u64 *)(r10 -8)
    r1 = r10
    r1 += -8
    r2 = 4
    call bpf_probe_read_kernel#113
    r0 = *(u32 *)(r10 -8)
    r0 <<= 32
    r0 s>>= 32
    *(u32 *)(r7 +8) = r0
    r3 = r6
    r3 += 16
    r1 = r7
    r1 += 12
    r2 = 8
    call bpf_probe_read_kernel#113
    r6 += 24
    r1 = r10
    r1 += -8
    r2 = 4
    r3 = r6
    call bpf_probe_read_kernel#113
    r0 = *(u32 *)(r10 -8)
    r0 >>= 3
    r0 &= 127
    *(u32 *)(r7 +20) = r0
    r1 = r7
    r2 = 0
    call bpf_ringbuf_submit#132
    r0 = 0
    exit
    r0 = map[id:0][0]+0  ; data lost
    r1 = 1
    lock *(u64 *)(r0 +0) += r1
    r0 = 0
    exit
