map scalars type 2 key 4 value 16

kprobe:
    r6 = r1
    call bpf_get_current_pid_tgid#14
    r0 >>= 32
    if r0 == 0x1 goto pc+5
    call bpf_get_current_uid_gid#15
    w0 = w0
    if r0 == 0x0 goto pc+15
    r0 = *(u64 *)(r6 +0)
    if r0 != 0x0 goto pc+13
    r0 = *(u64 *)(r6 +8)
    if r0 > 0x5 goto pc+2
    r0 = -1
    goto pc+1
    r0 *= 3
    r1 = map[id:0][0]+8  ; data scalars+8
    *(u64 *)(r1 +0) = r0
    r0 = map[id:0][0]+0  ; data scalars
    *(u64 *)(r0 +0) = 1
    r0 = 0
    exit
    r0 = 0
    exit
