; The map helpers in BPF, for the layouts of vm.maps. A map pointer is the address of its header
; (vm/maps/layout.py); map types that are not here go to the `python_` functions.
;
; Each function takes and gives what the helper of its name does.

.func map_lookup_elem
  r3 = *(u32 *)(r1 +4)          ; type
  if r3 == 1 goto hash
  if r3 == 2 goto array
  if r3 == 9 goto lru
  if r3 == 6 goto percpu_array
  if r3 == 5 goto percpu_hash
  if r3 == 10 goto percpu_hash
  call kfunc python_map_lookup_elem
  exit
array:
  r3 = *(u32 *)(r2 +0)
  r0 = 0
  r4 = *(u32 *)(r1 +16)         ; max_entries
  if r3 >= r4 goto none
  r4 = *(u32 *)(r1 +32)         ; element_step
  r3 *= r4
  r0 = *(u64 *)(r1 +40)         ; elements
  r0 += r3
  r0 += r1
none:
  exit
percpu_array:
  r6 = r1
  call array_element
  if r0 == 0 goto none
  goto slot
hash:
  r6 = r1
  call hash_find
  if r0 == 0 goto none
  r1 = *(u32 *)(r6 +112)        ; value_offset
  r0 += r1
  exit
lru:
  r6 = r1
  call hash_find
  if r0 == 0 goto none
  *(u32 *)(r0 +8) = 1           ; used
  r1 = *(u32 *)(r6 +112)
  r0 += r1
  exit
percpu_hash:
  r6 = r1
  call hash_find
  if r0 == 0 goto none
  *(u32 *)(r0 +8) = 1
  r1 = *(u32 *)(r6 +112)
  r0 += r1
slot:
  r7 = r0
  call kfunc sched_getcpu
  w0 = w0
  r1 = *(u32 *)(r6 +24)         ; value_step
  r0 *= r1
  r0 += r7
  exit

; The address of the slots of an array's element, or 0. r1 map, r2 key.
.func array_element
  r3 = *(u32 *)(r2 +0)
  r0 = 0
  r4 = *(u32 *)(r1 +16)
  if r3 >= r4 goto out
  r4 = *(u32 *)(r1 +32)
  r3 *= r4
  r0 = *(u64 *)(r1 +40)
  r0 += r3
  r0 += r1
out:
  exit

; The 32-bit hash of a key, see vm/maps/hash.py. r1 key, r2 bytes.
.func key_hash
  r0 = r2
  r5 = 0x9e3779b97f4a7c15 ll
words:
  if r2 < 8 goto rest
  r3 = *(u64 *)(r1 +0)
  r0 ^= r3
  r0 *= r5
  r3 = r0
  r3 >>= 32
  r0 ^= r3
  r1 += 8
  r2 -= 8
  goto words
rest:
  if r2 == 0 goto done
  if r2 == 4 goto half
  r3 = 0                        ; the last bytes, as a little-endian word
  r1 += r2
bytes:
  r1 -= 1
  r3 <<= 8
  r4 = *(u8 *)(r1 +0)
  r3 |= r4
  r2 -= 1
  if r2 != 0 goto bytes
  goto mix
half:
  r3 = *(u32 *)(r1 +0)
mix:
  r0 ^= r3
  r0 *= r5
  r3 = r0
  r3 >>= 32
  r0 ^= r3
done:
  w0 = w0
  exit

; The address of the element with a key, or 0, without locking. r1 map, r2 key.
.func hash_find
  r6 = r1
  r7 = r2
  r1 = r2
  r2 = *(u32 *)(r6 +8)          ; key_size
  call key_hash
  r8 = r0
  r9 = *(u32 *)(r6 +36)         ; bucket_mask
  r9 &= r0
  r9 <<= 4
  r0 = *(u64 *)(r6 +48)         ; buckets
  r9 += r0
  r9 += r6
  *(u64 *)(r10 -16) = 200       ; PATIENCE
again:
  r1 = load_acquire((u32 *)(r9 +4)) ; sequence
  *(u64 *)(r10 -8) = r1
  r1 = r6
  r2 = r7
  r3 = r8
  r4 = r9
  r5 = r10
  r5 += -24                     ; where the link would go
  call hash_walk
  if r0 != 0 goto out
  r1 = *(u64 *)(r10 -8)
  r2 = load_acquire((u32 *)(r9 +4))
  if r1 != r2 goto changed
  r1 &= 1
  if r1 == 0 goto out
changed:
  r1 = *(u64 *)(r10 -16)
  r1 -= 1
  *(u64 *)(r10 -16) = r1
  if r1 != 0 goto again
  r1 = r9                       ; its owner may have died in the middle
  call lock
  r1 = r6
  r2 = r7
  r3 = r8
  r4 = r9
  r5 = r10
  r5 += -24
  call hash_walk
  r8 = r0
  r1 = r9
  call unlock
  r0 = r8
out:
  exit

; Walk a chain: the address of the element with a key, or 0; the address of the link to it goes to *r5.
; r1 map, r2 key, r3 hash, r4 bucket.
.func hash_walk
  r6 = r1
  r4 += 8                       ; the link: first
  r7 = *(u32 *)(r6 +16)         ; a chain that changes may lead in circles, but not for longer
  r7 += 1
  r8 = *(u64 *)(r6 +40)         ; elements
  r8 += r6
  r9 = *(u32 *)(r6 +32)         ; element_step
  r6 = *(u32 *)(r6 +8)          ; key_size
walk:
  r0 = load_acquire((u32 *)(r4 +0))
  if r0 == 0 goto missing
  r0 -= 1
  r0 *= r9
  r0 += r8
  r1 = *(u32 *)(r0 +4)          ; hash
  if r1 == r3 goto compare
next:
  r4 = r0                       ; the link: next
  r7 -= 1
  if r7 != 0 goto walk
missing:
  r0 = 0
  *(u64 *)(r5 +0) = r4
  exit
compare:
  *(u64 *)(r10 -8) = r2
  *(u64 *)(r10 -16) = r3
  *(u64 *)(r10 -24) = r4
  r1 = r0
  r1 += 16                      ; key
  r3 = r6
word:
  if r3 < 8 goto half
  r4 = *(u64 *)(r1 +0)
  *(u64 *)(r10 -32) = r4
  r4 = *(u64 *)(r2 +0)
  *(u64 *)(r10 -40) = r5
  r5 = *(u64 *)(r10 -32)
  if r4 != r5 goto differ
  r5 = *(u64 *)(r10 -40)
  r1 += 8
  r2 += 8
  r3 -= 8
  goto word
half:
  *(u64 *)(r10 -40) = r5
  if r3 < 4 goto bytes
  r4 = *(u32 *)(r1 +0)
  r5 = *(u32 *)(r2 +0)
  if r4 != r5 goto differ
  r1 += 4
  r2 += 4
  r3 -= 4
bytes:
  if r3 == 0 goto found
  r4 = *(u8 *)(r1 +0)
  r5 = *(u8 *)(r2 +0)
  if r4 != r5 goto differ
  r1 += 1
  r2 += 1
  r3 -= 1
  goto bytes
differ:
  r2 = *(u64 *)(r10 -8)
  r3 = *(u64 *)(r10 -16)
  r4 = *(u64 *)(r10 -24)
  r5 = *(u64 *)(r10 -40)
  goto next
found:
  r4 = *(u64 *)(r10 -24)
  r5 = *(u64 *)(r10 -40)
  *(u64 *)(r5 +0) = r4
  exit

; Take the lock word at r1, and make the sequence behind it odd. From a dead owner it is taken over.
.func lock
  r6 = r1
  call thread_id
  r7 = r0
  r8 = 0
try:
  r0 = 0
  r1 = r7
  r0 = atomic_cmpxchg((u32 *)(r6 +0), r0, r1)
  if r0 == 0 goto taken
  r8 += 1
  if r8 != 100 goto try
  r8 = 0
  r9 = r0                       ; the owner
  r1 = r0
  r2 = 0
  call kfunc kill
  if w0 == 0 goto wait
  call kfunc __errno_location
  r1 = *(u32 *)(r0 +0)
  if r1 != 3 goto wait          ; ESRCH
  r0 = r9
  r1 = r7
  r0 = atomic_cmpxchg((u32 *)(r6 +0), r0, r1)
  if r0 == r9 goto taken
wait:
  r1 = 100
  call kfunc usleep
  goto try
taken:
  r1 = *(u32 *)(r6 +4)
  r1 |= 1
  *(u32 *)(r6 +4) = r1
  r0 = 0
  exit

; Give the lock word at r1 back, and make the sequence even.
.func unlock
  r2 = *(u32 *)(r1 +4)
  r2 += 1
  store_release((u32 *)(r1 +4), r2)
  r2 = 0
  store_release((u32 *)(r1 +0), r2)
  r0 = 0
  exit

.func map_update_elem
  if r4 > 2 goto bad_flags
  r5 = *(u32 *)(r1 +4)
  if r5 == 1 goto hash
  if r5 == 2 goto array
  if r5 == 9 goto hash
  if r5 == 6 goto array
  if r5 == 5 goto hash
  if r5 == 10 goto hash
  call kfunc python_map_update_elem
  exit
bad_flags:
  r0 = -22                      ; EINVAL
  exit
hash:
  call hash_update
  exit
array:
  r6 = r1
  r7 = r3
  r8 = r4
  call array_element
  if r0 == 0 goto out_of_range
  if r8 == 1 goto exists        ; BPF_NOEXIST
  r1 = r6
  r2 = r0
  r3 = r7
  call copy_value
  r0 = 0
  exit
out_of_range:
  r0 = -7                       ; E2BIG
  exit
exists:
  r0 = -17                      ; EEXIST
  exit

; Copy a value to this CPU's slot among those at r2. r1 map, r3 value.
.func copy_value
  r6 = r1
  r7 = r2
  r8 = r3
  r1 = *(u32 *)(r6 +28)         ; cpus
  if r1 == 1 goto copy
  call kfunc sched_getcpu
  w0 = w0
  r1 = *(u32 *)(r6 +24)
  r0 *= r1
  r7 += r0
copy:
  r1 = r7
  r2 = r8
  r3 = *(u32 *)(r6 +12)         ; value_size
  call kfunc memcpy
  exit

; r1 map, r2 key, r3 value, r4 flags. On the stack: -8 key, -16 value, -24 flags, -32 hash, -40 bucket,
; -48 an unused element or 0, -56 link, -64 the element that was there.
.func hash_update
  r6 = r1
  *(u64 *)(r10 -8) = r2
  *(u64 *)(r10 -16) = r3
  *(u64 *)(r10 -24) = r4
  *(u64 *)(r10 -48) = 0
  r1 = r2
  r2 = *(u32 *)(r6 +8)
  call key_hash
  *(u64 *)(r10 -32) = r0
  r1 = *(u32 *)(r6 +36)
  r0 &= r1
  r0 <<= 4
  r1 = *(u64 *)(r6 +48)
  r0 += r1
  r0 += r6
  *(u64 *)(r10 -40) = r0
  r1 = *(u64 *)(r10 -24)
  if r1 == 2 goto locked        ; BPF_EXIST
  ; An element is taken before the lock: evicting one may need another bucket's.
  r1 = r6
  r2 = *(u64 *)(r10 -8)
  call hash_find
  if r0 != 0 goto locked
  r1 = r6
  call take_unused
  *(u64 *)(r10 -48) = r0
locked:
  r1 = *(u64 *)(r10 -40)
  call lock
  r1 = r6
  r2 = *(u64 *)(r10 -8)
  r3 = *(u64 *)(r10 -32)
  r4 = *(u64 *)(r10 -40)
  r5 = r10
  r5 += -56
  call hash_walk
  r9 = r0
  r8 = *(u64 *)(r10 -24)
  if r9 == 0 goto missing
  r7 = -17                      ; EEXIST
  if r8 == 1 goto release
  r1 = r6
  r2 = *(u32 *)(r6 +112)
  r2 += r9
  r3 = *(u64 *)(r10 -16)
  call copy_value
  *(u32 *)(r9 +8) = 1           ; used
  r7 = 0
  goto release
missing:
  r7 = -2                       ; ENOENT
  if r8 == 2 goto release
  r9 = *(u64 *)(r10 -48)
  if r9 == 0 goto full
  r1 = r9                       ; zeros behind the key and in the slots of other CPUs
  r1 += 16
  r2 = 0
  r3 = *(u32 *)(r6 +32)
  r3 -= 16
  call kfunc memset
  r1 = *(u64 *)(r10 -32)
  *(u32 *)(r9 +4) = r1          ; hash
  *(u32 *)(r9 +8) = 0           ; used
  r1 = r9
  r1 += 16
  r2 = *(u64 *)(r10 -8)
  r3 = *(u32 *)(r6 +8)
  call kfunc memcpy
  r1 = r6
  r2 = *(u32 *)(r6 +112)
  r2 += r9
  r3 = *(u64 *)(r10 -16)
  call copy_value
  r8 = *(u64 *)(r10 -40)
  r1 = *(u32 *)(r8 +8)          ; first
  *(u32 *)(r9 +0) = r1          ; next
  *(u32 *)(r9 +12) = 1          ; state
  r1 = r6
  r2 = r9
  call element_index
  store_release((u32 *)(r8 +8), r0)
  r1 = 1
  lock *(u64 *)(r6 +80) += r1   ; count
  r1 = r8
  call unlock
  r0 = 0
  exit
full:
  r7 = -7                       ; E2BIG
  r1 = *(u32 *)(r6 +4)
  if r1 == 1 goto release
  if r1 == 5 goto release
  r7 = -12                      ; ENOMEM
release:
  r1 = *(u64 *)(r10 -40)
  call unlock
  r2 = *(u64 *)(r10 -48)
  if r2 == 0 goto out
  r1 = r6
  call give_back
out:
  r0 = r7
  exit

; The number of the element at r2, counted from 1. r1 map.
.func element_index
  r0 = *(u64 *)(r1 +40)
  r0 += r1
  r2 -= r0
  r0 = *(u32 *)(r1 +32)
  r2 /= r0
  r0 = r2
  r0 += 1
  exit

; An element that is in no chain, or 0: from the list of unused ones; in an LRU map, else, an evicted one.
.func take_unused
  r6 = r1
retry:
  r0 = *(u64 *)(r6 +72)         ; free
  r7 = r0
  w2 = w0                       ; the index; the high half counts changes
  if r2 == 0 goto empty
  r2 -= 1
  r3 = *(u32 *)(r6 +32)
  r2 *= r3
  r3 = *(u64 *)(r6 +40)
  r2 += r3
  r2 += r6
  r1 = r0
  r1 >>= 32
  r1 += 1
  r1 <<= 32
  r3 = *(u32 *)(r2 +0)          ; next
  r1 |= r3
  r0 = atomic64_cmpxchg((u64 *)(r6 +72), r0, r1)
  if r0 != r7 goto retry
  r0 = r2
  exit
empty:
  r0 = 0
  r1 = *(u32 *)(r6 +4)
  if r1 == 1 goto out
  if r1 == 5 goto out
  r1 = r6
  call evict
out:
  exit

; Put the element at r2 on the list of unused ones. r1 map.
.func give_back
  r6 = r1
  r7 = r2
  call element_index
  r8 = r0
retry:
  r0 = *(u64 *)(r6 +72)
  r9 = r0
  *(u32 *)(r7 +0) = r0
  r1 = r0
  r1 >>= 32
  r1 += 1
  r1 <<= 32
  r1 |= r8
  r0 = atomic64_cmpxchg((u64 *)(r6 +72), r0, r1)
  if r0 != r9 goto retry
  r0 = 0
  exit

; Unlink an element that was not used lately, or 0. After two rounds every one was asked twice.
.func evict
  r6 = r1
  r7 = *(u32 *)(r6 +16)
  r7 <<= 1
  r7 += 1
ask:
  r1 = 1
  r1 = atomic64_fetch_add((u64 *)(r6 +88), r1) ; the hand
  r2 = *(u32 *)(r6 +16)
  r1 %= r2
  r2 = *(u32 *)(r6 +32)
  r1 *= r2
  r2 = *(u64 *)(r6 +40)
  r1 += r2
  r1 += r6
  r8 = r1
  r1 = *(u32 *)(r8 +12)         ; state
  if r1 == 0 goto other
  r1 = *(u32 *)(r8 +8)          ; used
  if r1 == 0 goto victim
  *(u32 *)(r8 +8) = 0
other:
  r7 -= 1
  if r7 != 0 goto ask
  r0 = 0
  exit
victim:
  r3 = *(u32 *)(r8 +4)
  *(u64 *)(r10 -8) = r3         ; hash
  r9 = *(u32 *)(r6 +36)
  r9 &= r3
  r9 <<= 4
  r1 = *(u64 *)(r6 +48)
  r9 += r1
  r9 += r6
  r1 = r9
  call lock
  r1 = r6
  r2 = r8
  r2 += 16
  r3 = *(u64 *)(r10 -8)
  r4 = r9
  r5 = r10
  r5 += -16
  call hash_walk
  if r0 != r8 goto gone
  r1 = r6
  r2 = r8
  r3 = *(u64 *)(r10 -16)
  call unlink
  r1 = r9
  call unlock
  r0 = r8
  exit
gone:
  r1 = r9
  call unlock
  goto other

; Take the element at r2 out of its chain, whose link to it is at r3. r1 map.
.func unlink
  r4 = *(u32 *)(r2 +0)
  store_release((u32 *)(r3 +0), r4)
  *(u32 *)(r2 +12) = 0
  r4 = -1
  lock *(u64 *)(r1 +80) += r4
  r0 = 0
  exit

.func map_delete_elem
  r3 = *(u32 *)(r1 +4)
  if r3 == 1 goto hash
  if r3 == 5 goto hash
  if r3 == 9 goto hash
  if r3 == 10 goto hash
  call kfunc python_map_delete_elem
  exit
hash:
  r6 = r1
  r7 = r2
  r1 = r2
  r2 = *(u32 *)(r6 +8)
  call key_hash
  r8 = r0
  r9 = *(u32 *)(r6 +36)
  r9 &= r0
  r9 <<= 4
  r1 = *(u64 *)(r6 +48)
  r9 += r1
  r9 += r6
  r1 = r9
  call lock
  r1 = r6
  r2 = r7
  r3 = r8
  r4 = r9
  r5 = r10
  r5 += -8
  call hash_walk
  r7 = r0
  if r7 == 0 goto missing
  r1 = r6
  r2 = r7
  r3 = *(u64 *)(r10 -8)
  call unlink
  r1 = r9
  call unlock
  r1 = r6
  r2 = r7
  call give_back
  r0 = 0
  exit
missing:
  r1 = r9
  call unlock
  r0 = -2                       ; ENOENT
  exit

.func map_lookup_percpu_elem
  w3 = w3
  r4 = *(u32 *)(r1 +28)         ; cpus
  r0 = 0
  if r3 >= r4 goto none
  r6 = r1
  r7 = r3
  r4 = *(u32 *)(r1 +4)
  if r4 == 6 goto array
  if r4 == 5 goto hash
  if r4 == 10 goto hash
none:
  exit
array:
  call array_element
  if r0 == 0 goto none
  goto slot
hash:
  call hash_find
  if r0 == 0 goto none
  r1 = *(u32 *)(r6 +112)
  r0 += r1
slot:
  r1 = *(u32 *)(r6 +24)
  r7 *= r1
  r0 += r7
  exit
