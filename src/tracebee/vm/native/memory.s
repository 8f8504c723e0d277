; Reading another process's memory, or this one's. `traced_process` of another text says whose. The kernel does
; the copying: a bad address is its error, not this process's end.

.func probe_read_user
  call read_memory
  exit

.func probe_read
  call read_memory
  exit

.func probe_read_user_str
  call read_string
  exit

.func probe_read_str
  call read_string
  exit

; Copy r2 bytes from r3 to r1: 0, or -EFAULT and zeros.
.func read_memory
  r6 = r1
  w7 = w2
  *(u64 *)(r10 -16) = r1        ; struct iovec: here
  *(u64 *)(r10 -8) = r7
  *(u64 *)(r10 -32) = r3        ; and there
  *(u64 *)(r10 -24) = r7
  call traced_process
  r1 = r0
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
  r0 = -14                      ; EFAULT
  exit
whole:
  r0 = 0
  exit

; Copy the string at r3 with its NUL to r1, at most r2 bytes, the last then a NUL: the number of bytes.
; Nothing behind the NUL is written. A bad address gives -EFAULT and zeros.
; On the stack: -16 iovec here, -32 iovec there, -40 the size, -296 a piece.
.func read_string
  w2 = w2
  r0 = 0
  if r2 == 0 goto out
  r6 = r1
  r7 = r3
  r8 = r2                       ; bytes that may still be copied
  *(u64 *)(r10 -40) = r2
piece:
  r9 = r7                       ; up to the end of the page: the next one may not be there
  r9 &= 4095
  r1 = 4096
  r1 -= r9
  r9 = r1
  if r9 <= 256 goto small
  r9 = 256
small:
  if r9 <= r8 goto fits
  r9 = r8
fits:
  r1 = r10
  r1 += -296
  *(u64 *)(r10 -16) = r1
  *(u64 *)(r10 -8) = r9
  *(u64 *)(r10 -32) = r7
  *(u64 *)(r10 -24) = r9
  call traced_process
  r1 = r0
  r2 = r10
  r2 += -16
  r3 = 1
  r4 = r10
  r4 += -32
  r5 = 1
  call kfunc process_vm_readv
  if r0 != r9 goto fault
  r1 = r10
  r1 += -296
  r2 = 0
  r3 = r9
  call kfunc memchr
  if r0 == 0 goto whole
  r1 = r10                      ; the string ends in this piece
  r1 += -296
  r9 = r0
  r9 -= r1
  r9 += 1
  r8 -= r9
  r1 = r6
  r2 = r10
  r2 += -296
  r3 = r9
  call kfunc memcpy
  r0 = *(u64 *)(r10 -40)
  r0 -= r8
  exit
whole:
  r1 = r6
  r2 = r10
  r2 += -296
  r3 = r9
  call kfunc memcpy
  r6 += r9
  r7 += r9
  r8 -= r9
  if r8 != 0 goto piece
  r1 = 0
  *(u8 *)(r6 -1) = r1           ; cut
  r0 = *(u64 *)(r10 -40)
out:
  exit
fault:
  r3 = *(u64 *)(r10 -40)
  r1 = r3
  r1 -= r8
  r6 -= r1                      ; back to the start
  r1 = r6
  r2 = 0
  call kfunc memset
  r0 = -14                      ; EFAULT
  exit
