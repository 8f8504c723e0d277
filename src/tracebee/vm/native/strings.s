; Helpers on strings and names, as vm/helpers.py has them.

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
