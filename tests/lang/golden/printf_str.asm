map events type 27 key 0 value 0
map lost type 2 key 4 value 8

tracepoint:
    r6 = r1
    r1 = map[id:0]  ; map events
    r2 = 1056
    r3 = 0
    call bpf_ringbuf_reserve#131
    r7 = r0
    if r7 == 0x0 goto pc+21
    *(u64 *)(r7 +0) = 0
    r1 = r7
    r1 += 8
    r2 = 16
    call bpf_get_current_comm#16
    r3 = *(u64 *)(r6 +8)
    r1 = r7
    r1 += 24
    r2 = 1024
    call bpf_probe_read_user_str#114
    if r0 != 0x400 goto pc+1
    *(u8 *)(r7 +1047) = 255
    r0 = *(u32 *)(r6 +0)
    r0 <<= 32
    r0 s>>= 32
    *(u32 *)(r7 +1048) = r0
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
