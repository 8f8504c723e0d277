; Helpers that ask about time, the processor and the process, through the C library.

.func ktime_get_ns
  r1 = 1                        ; CLOCK_MONOTONIC
  call clock
  exit

.func ktime_get_boot_ns
  r1 = 7                        ; CLOCK_BOOTTIME
  call clock
  exit

.func ktime_get_tai_ns
  r1 = 11                       ; CLOCK_TAI
  call clock
  exit

; Nanoseconds of a clock of clock_gettime(2).
.func clock
  r2 = r10
  r2 += -16
  call kfunc clock_gettime
  r0 = *(u64 *)(r10 -16)
  r0 *= 1000000000
  r1 = *(u64 *)(r10 -8)
  r0 += r1
  exit

.func get_smp_processor_id
  call kfunc sched_getcpu
  w0 = w0
  exit

.func get_current_pid_tgid
  call kfunc getpid
  r6 = r0
  call kfunc gettid
  w0 = w0
  r6 <<= 32
  r0 |= r6
  exit

.func get_current_uid_gid
  call kfunc getgid
  r6 = r0
  call kfunc getuid
  w0 = w0
  r6 <<= 32
  r0 |= r6
  exit

.func get_prandom_u32
  *(u64 *)(r10 -8) = 0
  r1 = r10
  r1 += -8
  r2 = 4
  r3 = 1                        ; GRND_NONBLOCK
  call kfunc getrandom
  r0 = *(u32 *)(r10 -8)
  exit

; Whose memory read_memory and read_string read.
.func traced_process
  call kfunc getpid
  w0 = w0
  exit

.func probe_read_kernel
  call read_memory
  exit

.func probe_read_kernel_str
  call read_string
  exit
