"""LLVM IR of the allocator that large results come from: it keeps the memory of arrays that died for the next ones.

    void table(void **out)     writes the addresses of malloc, calloc, realloc, free (NumPy's handler, NEP 49) and trim

Fresh memory costs page faults, as much time as half of a kernel that is bound by memory. A block is a header of 64
bytes (its capacity) and the data, aligned to 64 bytes; blocks of 4 MiB and more ask for huge pages. Freed blocks wait
on a stack of at most PLACES, the latest on top, whose sizes sum up to at most the limit. Everything runs under the GIL,
as NumPy's own allocation of array data does, so nothing is locked. Must not know arrays: the store is `STORE_WORDS`
words that runtime.memory owns.
"""

from __future__ import annotations

from jitensor.codegen.emit_pool import QUICKLY_COMPILED

# Words of the store.
LIMIT, CACHED, IN_USE, PEAK, MADE, REUSED, COUNT = 0, 1, 2, 3, 4, 5, 6
_FIRST = 8  # then (block, capacity) of each place
PLACES = 64
STORE_WORDS = _FIRST + 2 * PLACES
FUNCTIONS = ("malloc", "calloc", "realloc", "free", "trim")
_HUGE = 4 << 20  # from here on aligned to huge pages
_NUMBERS = {
    "LIMIT": LIMIT,
    "CACHED": CACHED,
    "IN_USE": IN_USE,
    "PEAK": PEAK,
    "MADE": MADE,
    "REUSED": REUSED,
    "COUNT": COUNT,
    "FIRST": _FIRST,
    "PLACES": PLACES,
    "HUGE": _HUGE,
}


def emit_store(symbol: str) -> str:
    text = _TEXT.replace("SYMBOL", symbol) + QUICKLY_COMPILED
    for name, value in _NUMBERS.items():
        text = text.replace(f"${name}$", str(value))
    return text


_TEXT = """\
declare i32 @posix_memalign(ptr, i64, i64)
declare i32 @madvise(ptr, i64, i32)
declare void @free(ptr)
declare i64 @llvm.smax.i64(i64, i64)
declare i64 @llvm.umin.i64(i64, i64)
declare { i64, i1 } @llvm.umul.with.overflow.i64(i64, i64)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
declare void @llvm.memmove.p0.p0.i64(ptr, ptr, i64, i1)

define void @SYMBOL(ptr %out) #0 {
  store ptr @take, ptr %out
  %p1 = getelementptr ptr, ptr %out, i64 1
  store ptr @clear, ptr %p1
  %p2 = getelementptr ptr, ptr %out, i64 2
  store ptr @resize, ptr %p2
  %p3 = getelementptr ptr, ptr %out, i64 3
  store ptr @give, ptr %p3
  %p4 = getelementptr ptr, ptr %out, i64 4
  store ptr @trim, ptr %p4
  ret void
}

define internal void @count(ptr %store, i64 %word, i64 %by) #0 {
  %p = getelementptr i64, ptr %store, i64 %word
  %old = load i64, ptr %p
  %new = add i64 %old, %by
  store i64 %new, ptr %p
  ret void
}

; The block at place %i leaves the stack.
define internal void @remove(ptr %store, i64 %i) #0 {
  %pcount = getelementptr i64, ptr %store, i64 $COUNT$
  %count = load i64, ptr %pcount
  %at2 = mul i64 %i, 2
  %at = add i64 %at2, $FIRST$
  %here = getelementptr i64, ptr %store, i64 %at
  %pcap = getelementptr i64, ptr %here, i64 1
  %cap = load i64, ptr %pcap
  %minus = sub i64 0, %cap
  call void @count(ptr %store, i64 $CACHED$, i64 %minus)
  %next = getelementptr i64, ptr %here, i64 2
  %rest1 = sub i64 %count, %i
  %rest = sub i64 %rest1, 1
  %bytes = mul i64 %rest, 16
  call void @llvm.memmove.p0.p0.i64(ptr %here, ptr %next, i64 %bytes, i1 false)
  %less = sub i64 %count, 1
  store i64 %less, ptr %pcount
  ret void
}

; Gives the oldest blocks back until at most %most bytes wait in at most %places places.
define internal void @trim(ptr %store, i64 %most, i64 %places) #0 {
entry:
  %pcached = getelementptr i64, ptr %store, i64 $CACHED$
  %pcount = getelementptr i64, ptr %store, i64 $COUNT$
  %pfirst = getelementptr i64, ptr %store, i64 $FIRST$
  br label %look
look:
  %cached = load i64, ptr %pcached
  %count = load i64, ptr %pcount
  %some = icmp sgt i64 %count, 0
  %bytes = icmp sgt i64 %cached, %most
  %many = icmp sgt i64 %count, %places
  %much = or i1 %bytes, %many
  %go = and i1 %some, %much
  br i1 %go, label %one, label %done
one:
  %block = load ptr, ptr %pfirst
  call void @remove(ptr %store, i64 0)
  call void @free(ptr %block)
  br label %look
done:
  ret void
}

define internal ptr @take(ptr %store, i64 %size) #0 {
entry:
  %cell = alloca ptr
  %huge0 = icmp ugt i64 %size, 4611686018427387904
  br i1 %huge0, label %none, label %round
none:
  ret ptr null
round:
  %up = add i64 %size, 4095
  %need0 = and i64 %up, -4096
  %need = call i64 @llvm.smax.i64(i64 %need0, i64 4096)
  %quarter = lshr i64 %need, 2
  %most = add i64 %need, %quarter
  %pcount = getelementptr i64, ptr %store, i64 $COUNT$
  %count = load i64, ptr %pcount
  br label %search
search:
  %i = phi i64 [ %count, %round ], [ %k, %next ]
  %any = icmp sgt i64 %i, 0
  br i1 %any, label %try, label %fresh
try:
  %k = sub i64 %i, 1
  %k2 = mul i64 %k, 2
  %at = add i64 %k2, $FIRST$
  %here = getelementptr i64, ptr %store, i64 %at
  %pcap = getelementptr i64, ptr %here, i64 1
  %cap = load i64, ptr %pcap
  %fits = icmp sge i64 %cap, %need
  %close = icmp sle i64 %cap, %most
  %good = and i1 %fits, %close
  br i1 %good, label %found, label %next
next:
  br label %search
found:
  %block = load ptr, ptr %here
  call void @remove(ptr %store, i64 %k)
  call void @count(ptr %store, i64 $REUSED$, i64 1)
  br label %use
fresh:
  %large = icmp sge i64 %need, $HUGE$
  %align = select i1 %large, i64 2097152, i64 64
  %whole = add i64 %need, 64
  %e1 = call i32 @posix_memalign(ptr %cell, i64 %align, i64 %whole)
  %ok1 = icmp eq i32 %e1, 0
  br i1 %ok1, label %advise, label %again
again:
  call void @trim(ptr %store, i64 0, i64 0)
  %e2 = call i32 @posix_memalign(ptr %cell, i64 %align, i64 %whole)
  %ok2 = icmp eq i32 %e2, 0
  br i1 %ok2, label %advise, label %none
advise:
  %new = load ptr, ptr %cell
  call void @count(ptr %store, i64 $MADE$, i64 1)
  br i1 %large, label %pages, label %use
pages:
  %m = call i32 @madvise(ptr %new, i64 %whole, i32 14)
  br label %use
use:
  %b = phi ptr [ %block, %found ], [ %new, %advise ], [ %new, %pages ]
  %c = phi i64 [ %cap, %found ], [ %need, %advise ], [ %need, %pages ]
  store i64 %c, ptr %b
  call void @count(ptr %store, i64 $IN_USE$, i64 %c)
  %puse = getelementptr i64, ptr %store, i64 $IN_USE$
  %use1 = load i64, ptr %puse
  %ppeak = getelementptr i64, ptr %store, i64 $PEAK$
  %peak = load i64, ptr %ppeak
  %peak1 = call i64 @llvm.smax.i64(i64 %peak, i64 %use1)
  store i64 %peak1, ptr %ppeak
  %data = getelementptr i8, ptr %b, i64 64
  ret ptr %data
}

define internal ptr @clear(ptr %store, i64 %n, i64 %each) #0 {
  %product = call { i64, i1 } @llvm.umul.with.overflow.i64(i64 %n, i64 %each)
  %size = extractvalue { i64, i1 } %product, 0
  %over = extractvalue { i64, i1 } %product, 1
  br i1 %over, label %none, label %get
get:
  %data = call ptr @take(ptr %store, i64 %size)
  %bad = icmp eq ptr %data, null
  br i1 %bad, label %none, label %fill
fill:
  call void @llvm.memset.p0.i64(ptr %data, i8 0, i64 %size, i1 false)
  ret ptr %data
none:
  ret ptr null
}

define internal void @give(ptr %store, ptr %data, i64 %size) #0 {
entry:
  %nothing = icmp eq ptr %data, null
  br i1 %nothing, label %done, label %some
done:
  ret void
some:
  %block = getelementptr i8, ptr %data, i64 -64
  %cap = load i64, ptr %block
  %minus = sub i64 0, %cap
  call void @count(ptr %store, i64 $IN_USE$, i64 %minus)
  %plimit = getelementptr i64, ptr %store, i64 $LIMIT$
  %limit = load i64, ptr %plimit
  %fits = icmp sle i64 %cap, %limit
  br i1 %fits, label %keep, label %drop
drop:
  call void @free(ptr %block)
  ret void
keep:
  %room = sub i64 %limit, %cap
  %places = sub i64 $PLACES$, 1
  call void @trim(ptr %store, i64 %room, i64 %places)
  %pcount = getelementptr i64, ptr %store, i64 $COUNT$
  %count = load i64, ptr %pcount
  %k2 = mul i64 %count, 2
  %at = add i64 %k2, $FIRST$
  %here = getelementptr i64, ptr %store, i64 %at
  store ptr %block, ptr %here
  %pcap = getelementptr i64, ptr %here, i64 1
  store i64 %cap, ptr %pcap
  %count1 = add i64 %count, 1
  store i64 %count1, ptr %pcount
  call void @count(ptr %store, i64 $CACHED$, i64 %cap)
  ret void
}

define internal ptr @resize(ptr %store, ptr %data, i64 %size) #0 {
entry:
  %nothing = icmp eq ptr %data, null
  br i1 %nothing, label %new, label %old
new:
  %made = call ptr @take(ptr %store, i64 %size)
  ret ptr %made
old:
  %block = getelementptr i8, ptr %data, i64 -64
  %cap = load i64, ptr %block
  %fits = icmp sle i64 %size, %cap
  br i1 %fits, label %same, label %move
same:
  ret ptr %data
move:
  %larger = call ptr @take(ptr %store, i64 %size)
  %bad = icmp eq ptr %larger, null
  br i1 %bad, label %none, label %copy
copy:
  %n = call i64 @llvm.umin.i64(i64 %cap, i64 %size)
  call void @llvm.memcpy.p0.p0.i64(ptr %larger, ptr %data, i64 %n, i1 false)
  call void @give(ptr %store, ptr %data, i64 %cap)
  ret ptr %larger
none:
  ret ptr null
}
"""
