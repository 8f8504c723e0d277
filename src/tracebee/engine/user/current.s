; Helpers about the traced thread in BPF. CURRENT is the address of the block that engine/user/current.py
; describes; the tracer writes it before a program runs.

.func get_current_pid_tgid
  r1 = CURRENT ll
  r0 = *(u64 *)(r1 +0)
  exit

.func get_current_uid_gid
  r1 = CURRENT ll
  r0 = *(u64 *)(r1 +8)
  exit

.func get_attach_cookie
  r1 = CURRENT ll
  r0 = *(u64 *)(r1 +16)
  exit

.func get_func_ip
  r1 = CURRENT ll
  r0 = *(u64 *)(r1 +24)
  exit

.func get_current_cgroup_id
  r1 = CURRENT ll
  r0 = *(u64 *)(r1 +40)
  exit

; r1 device, r2 inode of a pid namespace, r3 struct bpf_pidns_info {pid, tgid}, r4 its size.
.func get_ns_current_pid_tgid
  r1 = CURRENT ll
  r2 = *(u32 *)(r1 +0)
  *(u32 *)(r3 +0) = r2
  r2 = *(u32 *)(r1 +4)
  *(u32 *)(r3 +4) = r2
  r0 = 0
  exit

; r1 buffer, r2 its size: the name, cut to it and closed by a NUL.
.func get_current_comm
  r6 = r1
  w7 = w2
  r2 = CURRENT ll
  r2 += 48
  r3 = r7
  call kfunc strncpy
  r6 += r7
  *(u8 *)(r6 -1) = 0
  r0 = 0
  exit

.func probe_read_user
  call read_tracee
  exit

.func probe_read
  call read_tracee
  exit

; Kernel memory is not to be had: zeros, and -EFAULT.
.func probe_read_kernel
  w3 = w2
  r2 = 0
  call kfunc memset
  r0 = -14
  exit

; Copy r2 bytes from r3 of the traced process to r1: 0, or -EFAULT and zeros.
.func read_tracee
  r6 = r1
  w7 = w2
  *(u64 *)(r10 -16) = r1        ; struct iovec: here
  *(u64 *)(r10 -8) = r7
  *(u64 *)(r10 -32) = r3        ; and there
  *(u64 *)(r10 -24) = r7
  r1 = CURRENT ll
  r1 = *(u64 *)(r1 +32)
  r2 = r10
  r2 += -16
  r3 = 1
  r4 = r10
  r4 += -32
  r5 = 1
  call kfunc process_vm_readv
  if r0 == r7 goto whole
  r1 = r6
  r2 = 0
  r3 = r7
  call kfunc memset
  r0 = -14
  exit
whole:
  r0 = 0
  exit

; Copy a string of at most r2 bytes from r3 of the traced process to r1: its length with the NUL, or
; -EFAULT. Up to a page's end at a time: the next page may not be there.
.func probe_read_user_str
  r6 = r1                       ; where the next bytes go
  w7 = w2                       ; room
  r8 = r3                       ; where they come from
  r9 = r1
  if r7 == 0 goto empty
more:
  r2 = r8
  r2 &= 4095
  r1 = 4096
  r1 -= r2
  if r1 <= r7 goto sized
  r1 = r7
sized:
  *(u64 *)(r10 -8) = r1
  r2 = r1
  r1 = r6
  r3 = r8
  call read_tracee
  if r0 != 0 goto out
  r1 = r6
  r2 = 0
  r3 = *(u64 *)(r10 -8)
  call kfunc memchr
  if r0 != 0 goto found
  r1 = *(u64 *)(r10 -8)
  r6 += r1
  r8 += r1
  r7 -= r1
  if r7 != 0 goto more
  r6 += -1                      ; cut: the last byte becomes the NUL
  *(u8 *)(r6 +0) = 0
  r0 = r6
found:
  r0 -= r9
  r0 += 1
out:
  exit
empty:
  r0 = 0
  exit
