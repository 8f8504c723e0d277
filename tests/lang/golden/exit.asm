map events type 27 key 0 value 0
map lost type 2 key 4 value 8

begin:
    r1 = map[id:0]  ; map events
    r2 = 16
    r3 = 0
    call bpf_ringbuf_reserve#131
    if r0 == 0x0 goto pc+7
    *(u64 *)(r0 +0) = 0
    *(u8 *)(r0 +8) = 0
    r1 = r0
    r2 = 0
    call bpf_ringbuf_submit#132
    r0 = 0
    exit
    r0 = map[id:0][0]+0  ; data lost
    r1 = 1
    lock *(u64 *)(r0 +0) += r1
    r0 = 0
    exit
