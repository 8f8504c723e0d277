; The ring buffer helpers in BPF, for the layout of vm/maps/ringbuf.py.

; r1 map, r2 bytes, r3 flags: the address of a record's data, or 0.
.func ringbuf_reserve
  r0 = 0
  if r3 != 0 goto out
  call reserve
out:
  exit

.func reserve
  r6 = r1
  r7 = r2
  r8 = r2
  r8 += 15                      ; the header and rounding up
  r8 &= -8
  r1 = *(u32 *)(r6 +16)         ; max_entries: bytes of data
  if r8 > r1 goto full
  if r7 >= 0x40000000 goto full
  r1 = r6
  r1 += 64                      ; the map's lock
  call lock
  r9 = *(u64 *)(r6 +40)         ; elements: the consumer page
  r9 += r6
  r0 = load_acquire((u64 *)(r9 +0)) ; consumer position
  r1 = *(u64 *)(r9 +4096)       ; producer position
  r2 = r1
  r2 += r8                      ; where the next record begins
  r3 = r2
  r3 -= r0
  r4 = *(u32 *)(r6 +16)
  r4 -= 1
  if r3 > r4 goto no_room
  r1 &= r4
  r1 += 8192
  r0 = r9
  r0 += r1                      ; the record
  r1 >>= 12
  *(u32 *)(r0 +4) = r1          ; pages from the consumer page
  w3 = w7
  w3 |= -2147483648             ; busy
  *(u32 *)(r0 +0) = r3
  store_release((u64 *)(r9 +4096), r2)
  r7 = r0
  r1 = r6
  r1 += 64
  call unlock
  r0 = r7
  r0 += 8
  exit
no_room:
  r1 = r6
  r1 += 64
  call unlock
full:
  r1 = r6
  call kfunc python_ringbuf_lost
  r0 = 0
  exit

.func ringbuf_submit
  r3 = 0
  call commit
  exit

.func ringbuf_discard
  r3 = 0x40000000
  call commit
  exit

; r1 data of a record, r2 flags, r3 what goes into its length.
.func commit
  r4 = *(u32 *)(r1 -8)
  r4 &= 0x3fffffff
  r4 |= r3
  r5 = *(u32 *)(r1 -4)          ; pages from the consumer page
  r6 = r1
  r6 -= 8
  store_release((u32 *)(r6 +0), r4)
  r2 &= 1                       ; BPF_RB_NO_WAKEUP
  if r2 != 0 goto out
  r6 >>= 12
  r6 -= r5
  r6 <<= 12                     ; the consumer page
  r6 -= 4096                    ; one page before it: the header
  r1 = *(u32 *)(r6 +88)         ; head: the descriptor of the reader's eventfd
  r2 = 1
  call kfunc eventfd_write
out:
  r0 = 0
  exit

; r1 map, r2 data, r3 bytes, r4 flags: 0 or -errno.
.func ringbuf_output
  r0 = -22                      ; EINVAL
  if r4 > 3 goto out
  r7 = r2
  r8 = r3
  r9 = r4
  r2 = r3
  call reserve
  r6 = r0
  r0 = -11                      ; EAGAIN
  if r6 == 0 goto out
  r1 = r6
  r2 = r7
  r3 = r8
  call kfunc memcpy
  r1 = r6
  r2 = r9
  r3 = 0
  call commit
  r0 = 0
out:
  exit

; r1 map, r2 which number.
.func ringbuf_query
  r3 = *(u64 *)(r1 +40)
  r3 += r1
  r4 = *(u64 *)(r3 +0)          ; consumer
  r0 = *(u64 *)(r3 +4096)       ; producer
  if r2 == 3 goto out
  if r2 == 0 goto available
  if r2 == 2 goto consumer
  r0 = 0
  if r2 != 1 goto out
  r0 = *(u32 *)(r1 +16)
  exit
available:
  r0 -= r4
  exit
consumer:
  r0 = r4
out:
  exit
