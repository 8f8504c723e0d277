map m type 1 key 4 value 8
map events type 27 key 0 value 0
map lost type 2 key 4 value 16

kprobe:
    *(u64 *)(r10 -24) = r1
    *(u64 *)(r10 -16) = 0
    *(u64 *)(r10 -8) = 0
    *(u64 *)(r10 -32) = 1
    call bpf_get_current_pid_tgid#14
    r0 >>= 32
    *(u32 *)(r10 -40) = r0
    r1 = map[id:0]  ; map m
    r2 = r10
    r2 += -40
    call bpf_map_lookup_elem#1
    if r0 == 0x0 goto pc+2
    *(u64 *)(r0 +0) = 1
    goto pc+13
    r1 = map[id:0]  ; map m
    r2 = r10
    r2 += -40
    r3 = r10
    r3 += -32
    r4 = 0
    call bpf_map_update_elem#2
    if r0 == 0x0 goto pc+4
    r0 = map[id:0][0]+0  ; data lost
    r1 = 1
    lock *(u64 *)(r0 +0) += r1
    *(u64 *)(r10 -8) = 0
    r1 = map[id:0]  ; map m
    r2 = subprog[+0]  ; func for_each_1
    r3 = r10
    r3 += -24
    r4 = 0
    call bpf_for_each_map_elem#164
    r0 = *(u64 *)(r10 -16)
    if r0 != 0x0 goto pc+18
    r1 = map[id:0]  ; map events
    r2 = 16
    r3 = 0
    call bpf_ringbuf_reserve#131
    if r0 == 0x0 goto pc+8
    *(u64 *)(r0 +0) = 0
    r1 = *(u64 *)(r10 -8)
    *(u64 *)(r0 +8) = r1
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

for_each_1:
    r0 = *(u64 *)(r4 +16)
    r1 = *(u64 *)(r3 +0)
    r0 += r1
    *(u64 *)(r4 +16) = r0
    r0 = *(u64 *)(r4 +16)
    if r0 s<= 0x5 goto pc+3
    *(u64 *)(r4 +8) = 1
    r0 = 1
    exit
    r0 = 0
    exit
