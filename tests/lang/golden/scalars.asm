map l type 6 key 4 value 96
map s type 6 key 4 value 8
map scalars type 2 key 4 value 48

kprobe:
    r6 = r1
    r0 = map[id:0][0]+8  ; data scalars+8
    r1 = 1
    lock *(u64 *)(r0 +0) += r1
    r0 = map[id:0][0]+0  ; data scalars
    *(u64 *)(r0 +0) = 1
    r0 = *(u64 *)(r6 +8)
    r1 = map[id:0][0]+24  ; data scalars+24
    lock *(u64 *)(r1 +0) += r0
    r0 = map[id:0][0]+16  ; data scalars+16
    *(u64 *)(r0 +0) = 1
    call bpf_ktime_get_boot_ns#125
    r1 = map[id:0][0]+40  ; data scalars+40
    *(u64 *)(r1 +0) = r0
    r0 = map[id:0][0]+32  ; data scalars+32
    *(u64 *)(r0 +0) = 1
    r6 = *(u64 *)(r6 +0)
    *(u32 *)(r10 -4) = 0
    r1 = map[id:0]  ; map s
    r2 = r10
    r2 += -4
    call bpf_map_lookup_elem#1
    if r0 == 0x0 goto pc+3
    r1 = *(u64 *)(r0 +0)
    r1 += r6
    *(u64 *)(r0 +0) = r1
    r1 = map[id:0]  ; map l
    r2 = r10
    r2 += -4
    call bpf_map_lookup_elem#1
    if r0 == 0x0 goto pc+15
    if r6 s>= 0x0 goto pc+2
    r6 = 0
    goto pc+5
    if r6 < 0x64 goto pc+2
    r6 = 11
    goto pc+2
    r6 /= 10
    r6 += 1
    if r6 < 0xb goto pc+1
    r6 = 11
    r6 <<= 3
    r0 += r6
    r1 = *(u64 *)(r0 +0)
    r1 += 1
    *(u64 *)(r0 +0) = r1
    r0 = 0
    exit
