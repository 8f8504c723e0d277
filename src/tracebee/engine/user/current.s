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

; For vm/native/memory.s.
.func traced_process
  r1 = CURRENT ll
  r0 = *(u64 *)(r1 +32)
  exit
