; Helpers on strings and names, as vm/helpers.py has them.

.func probe_read_user_str
  call read_string
  exit

.func probe_read_kernel_str
  call read_string
  exit

.func probe_read_str
  call read_string
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
  call kfunc getpid
  w1 = w0
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

; r1 buffer, r2 bytes.
.func get_current_comm
  w7 = w2
  if r7 == 0 goto done
  r6 = r1
  r1 = 16                       ; PR_GET_NAME: 16 bytes, zeros behind the name
  r2 = r10
  r2 += -16
  call kfunc prctl
  r1 = r6
  r2 = 0
  r3 = r7
  call kfunc memset
  r7 -= 1                       ; the last byte stays a NUL
  if r7 <= 15 goto copy
  r7 = 15
copy:
  r1 = r6
  r2 = r10
  r2 += -16
  r3 = r7
  call kfunc memcpy
done:
  r0 = 0
  exit

; The order of two strings: r1, of at most r2 bytes, and r3.
.func strncmp
  w2 = w2
next:
  r0 = 0
  if r2 == 0 goto same
  r4 = *(u8 *)(r1 +0)
  r5 = *(u8 *)(r3 +0)
  if r4 != r5 goto differ
  if r4 == 0 goto same
  r1 += 1
  r3 += 1
  r2 -= 1
  goto next
differ:
  r0 = r4
  r0 -= r5
same:
  exit
