"""LLVM IR of the driver that every launch with more than a little work goes through, and of its workers.

    int64_t run(Pool *, Kernel *, int64_t *plan, char **buffers, int64_t *ints, char *scalars, int64_t limit)

cuts the launch into chunks (`codegen.work` makes the plan) and runs them on this thread and on sleeping workers, which
it wakes by a semaphore. The caller takes chunks itself and waits only for those that a worker has begun, so a launch
needs no worker to get on. One launch at a time has the workers; a second caller meanwhile runs its chunks alone.

Where other programs fill the cores, a worker may be stopped in the middle of a chunk, and the caller waits for it. So
each shared launch is compared with what it would have taken alone, to judge by the caller's own chunks. Gains are saved,
CREDIT at most, and losses spend them. When nothing is left, launches run alone for DEBT times what is owed, so that
sharing in vain costs a few percent at most.

Must not know Python: the pool is `POOL_WORDS` words of zeroed memory that runtime.threads owns.
"""

from __future__ import annotations

from jitensor.codegen.kernel import CHUNK
from jitensor.codegen.work import CHUNK_PICOSECONDS, MOST_CHUNKS, PARALLEL_PICOSECONDS

# Words of the pool. What several threads write stands on cache lines of its own.
RUN, THREADS, CREATED, SHARED_LAUNCHES, HELPED_CHUNKS, OWED = 0, 1, 2, 3, 4, 5
_BUSY, _JOB, _NEXT, _STATE, _WAKE, _DONE, _PENDING = 8, 16, 32, 40, 48, 56, 64
POOL_WORDS = 72
DEBT = 10
CREDIT = 10_000_000  # nanoseconds
_OPEN, _WAITED = 1 << 32, 1 << 33  # flags of the state word, above the number of workers inside
_SPINS = 2000  # a caller looks this often before it sleeps: some ten microseconds

# Optimising this code takes LLVM ten times as long as writing it out, and its time does not matter.
QUICKLY_COMPILED = "attributes #0 = { noinline optnone nounwind }\n"
PAUSE = {"x86_64": "llvm.x86.sse2.pause"}


def emit_pool(symbol: str, machine: str, *, threads: bool) -> str:
    """machine: what `platform.machine()` says. threads: without, launches run whole, on the caller's thread."""
    pause = PAUSE.get(machine)
    parts = [_DRIVER, _SHARE if threads else _SHARE_ALONE, QUICKLY_COMPILED]
    if threads:
        parts.append(f"declare void @{pause}()" if pause else "")
    text = (
        "\n".join(parts)
        .replace("CALL", _CALL)
        .replace("SYMBOL", symbol)
        .replace("PAUSE", f"call void @{pause}()" if pause else "")
    )
    for name, value in _NUMBERS.items():
        text = text.replace(f"${name}$", str(value))
    return text


_NUMBERS = {
    "CHUNK": CHUNK,
    "CHUNK_PS": CHUNK_PICOSECONDS,
    "PARALLEL_PS": PARALLEL_PICOSECONDS,
    "MOST": MOST_CHUNKS,
    "THREADS": THREADS,
    "CREATED": CREATED,
    "SHARED": SHARED_LAUNCHES,
    "HELPED": HELPED_CHUNKS,
    "BUSY": _BUSY,
    "JOB": _JOB,
    "NEXT": _NEXT,
    "STATE": _STATE,
    "WAKE": _WAKE,
    "DONE": _DONE,
    "PENDING": _PENDING,
    "OPEN": _OPEN,
    "CLOSED": -_OPEN - 1,
    "WAITED": _WAITED,
    "LAST": _WAITED + 1,
    "INSIDE": _OPEN - 1,
    "SPINS": _SPINS,
    "OWED": OWED,
    "DEBT": DEBT,
    "CREDIT": CREDIT,
}

_CALL = "ptr %pool, ptr %kernel, ptr %buffers, ptr %ints, ptr %scalars"
# plan: loops, picoseconds of one innermost iteration, grain, stages, slots of a partial result, fixed slots, buffers.
_DRIVER = """\
declare ptr @malloc(i64)
declare void @free(ptr)
declare i64 @llvm.smax.i64(i64, i64)
declare i64 @llvm.smin.i64(i64, i64)

define i64 @SYMBOL(ptr %pool, ptr %kernel, ptr %plan, ptr %buffers, ptr %ints, ptr %scalars, i64 %limit) #0 {
entry:
  %loops = load i64, ptr %plan
  %pcost = getelementptr i64, ptr %plan, i64 1
  %cost = load i64, ptr %pcost
  %pgrain = getelementptr i64, ptr %plan, i64 2
  %grain = load i64, ptr %pgrain
  %pstages = getelementptr i64, ptr %plan, i64 3
  %stages = load i64, ptr %pstages
  br label %product
product:
  %k = phi i64 [ 1, %entry ], [ %k1, %factor ]
  %inner = phi i64 [ 1, %entry ], [ %inner1, %factor ]
  %more = icmp slt i64 %k, %loops
  br i1 %more, label %factor, label %extent
factor:
  %pn = getelementptr i64, ptr %ints, i64 %k
  %nk = load i64, ptr %pn
  %inner1 = mul i64 %inner, %nk
  %k1 = add i64 %k, 1
  br label %product
extent:
  %n = load i64, ptr %ints
  %per0 = mul i64 %inner, %cost
  %per = call i64 @llvm.smax.i64(i64 %per0, i64 1)
  %total = mul i64 %per, %n
  %heavy = icmp sge i64 %total, $PARALLEL_PS$
  %most = sdiv i64 %total, $MOST$
  %target = call i64 @llvm.smax.i64(i64 %most, i64 $CHUNK_PS$)
  %threads = select i1 %heavy, i64 %limit, i64 1
  %staged = icmp sgt i64 %stages, 0
  br i1 %staged, label %reduce, label %map

map:
  %want = sdiv i64 %target, %per
  %grain1 = sub i64 %grain, 1
  %want1 = add i64 %want, %grain1
  %grains = sdiv i64 %want1, %grain
  %grains1 = call i64 @llvm.smax.i64(i64 %grains, i64 1)
  %length = mul i64 %grains1, %grain
  call void @share(CALL, i64 0, i64 %n, i64 %length, i64 %threads)
  ret i64 0

reduce:
  %inner2 = call i64 @llvm.smax.i64(i64 %inner, i64 1)
  %fit = sdiv i64 $CHUNK$, %inner2
  %rows = call i64 @llvm.smax.i64(i64 %fit, i64 1)
  %n1 = add i64 %n, %rows
  %n2 = sub i64 %n1, 1
  %chunks = sdiv i64 %n2, %rows
  %pslots = getelementptr i64, ptr %plan, i64 4
  %slots = load i64, ptr %pslots
  %pfixed = getelementptr i64, ptr %plan, i64 5
  %fixed = load i64, ptr %pfixed
  %partial = mul i64 %chunks, %slots
  %words = add i64 %partial, %fixed
  %bytes = mul i64 %words, 8
  %scratch = call ptr @malloc(i64 %bytes)
  %none = icmp eq ptr %scratch, null
  br i1 %none, label %fail, label %ready
fail:
  ret i64 1
ready:
  store i64 %rows, ptr %scratch
  %pchunks = getelementptr i64, ptr %scratch, i64 1
  store i64 %chunks, ptr %pchunks
  %pcount = getelementptr i64, ptr %plan, i64 6
  %count = load i64, ptr %pcount
  %plast = getelementptr ptr, ptr %buffers, i64 %count
  store ptr %scratch, ptr %plast
  %plast1 = getelementptr ptr, ptr %plast, i64 1
  store ptr %scratch, ptr %plast1
  %perchunk = mul i64 %per, %rows
  %group0 = sdiv i64 %target, %perchunk
  %group = call i64 @llvm.smax.i64(i64 %group0, i64 1)
  br label %stage
stage:
  %s = phi i64 [ 0, %ready ], [ %s2, %both ]
  %going = icmp slt i64 %s, %stages
  br i1 %going, label %both, label %over
both:
  %base = shl i64 %s, 32
  call void @share(CALL, i64 %base, i64 %chunks, i64 %group, i64 %threads)
  %s1 = add i64 %s, 1
  %base1 = shl i64 %s1, 32
  %base2 = add i64 %base1, 1
  %r = call i64 %kernel(ptr %buffers, ptr %ints, ptr %scalars, i64 %base1, i64 %base2)
  %s2 = add i64 %s, 2
  br label %stage
over:
  call void @free(ptr %scratch)
  ret i64 0
}
"""

_SHARE_ALONE = """
define internal void @share(CALL, i64 %base, i64 %n, i64 %length, i64 %limit) #0 {
  %end = add i64 %base, %n
  %r = call i64 %kernel(ptr %buffers, ptr %ints, ptr %scalars, i64 %base, i64 %end)
  ret void
}
"""

# limit: at most so many threads; 0 for the pool's own number. The job: kernel, buffers, ints, scalars, base, n, length.
_SHARE = """
declare i32 @sem_init(ptr, i32, i32)
declare i32 @sem_wait(ptr)
declare i32 @sem_post(ptr)
declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_detach(i64)
declare i32 @pthread_sigmask(i32, ptr, ptr)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)

define internal void @share(CALL, i64 %base, i64 %n, i64 %length, i64 %limit) #0 {
entry:
  %pthreads = getelementptr i64, ptr %pool, i64 $THREADS$
  %own = load i64, ptr %pthreads
  %given = icmp sgt i64 %limit, 0
  %most = select i1 %given, i64 %limit, i64 %own
  %n1 = add i64 %n, %length
  %n2 = sub i64 %n1, 1
  %count = sdiv i64 %n2, %length
  %used = call i64 @llvm.smin.i64(i64 %most, i64 %count)
  %helpers = sub i64 %used, 1
  %shared = icmp sgt i64 %helpers, 0
  br i1 %shared, label %lock, label %alone
lock:
  %powed = getelementptr i64, ptr %pool, i64 $OWED$
  %owed = load atomic i64, ptr %powed monotonic, align 8
  %indebted = icmp sgt i64 %owed, 0
  br i1 %indebted, label %pay, label %try
pay:
  %p0 = call i64 @clock()
  %payend = add i64 %base, %n
  %payr = call i64 %kernel(ptr %buffers, ptr %ints, ptr %scalars, i64 %base, i64 %payend)
  %p1 = call i64 @clock()
  %paid = sub i64 %p1, %p0
  %less = sub i64 %owed, %paid
  %left0 = call i64 @llvm.smax.i64(i64 %less, i64 0)
  store atomic i64 %left0, ptr %powed monotonic, align 8
  ret void
try:
  %pbusy = getelementptr i64, ptr %pool, i64 $BUSY$
  %got = cmpxchg ptr %pbusy, i64 0, i64 1 acquire monotonic
  %mine = extractvalue { i64, i1 } %got, 1
  br i1 %mine, label %start, label %alone
alone:
  %end = add i64 %base, %n
  %r = call i64 %kernel(ptr %buffers, ptr %ints, ptr %scalars, i64 %base, i64 %end)
  ret void

start:
  %t0 = call i64 @clock()
  %made = call i64 @create(ptr %pool, i64 %helpers)
  %pjob = getelementptr i64, ptr %pool, i64 $JOB$
  store ptr %kernel, ptr %pjob
  %pjob1 = getelementptr i64, ptr %pjob, i64 1
  store ptr %buffers, ptr %pjob1
  %pjob2 = getelementptr i64, ptr %pjob, i64 2
  store ptr %ints, ptr %pjob2
  %pjob3 = getelementptr i64, ptr %pjob, i64 3
  store ptr %scalars, ptr %pjob3
  %pjob4 = getelementptr i64, ptr %pjob, i64 4
  store i64 %base, ptr %pjob4
  %pjob5 = getelementptr i64, ptr %pjob, i64 5
  store i64 %n, ptr %pjob5
  %pjob6 = getelementptr i64, ptr %pjob, i64 6
  store i64 %length, ptr %pjob6
  %pshared = getelementptr i64, ptr %pool, i64 $SHARED$
  %before = load i64, ptr %pshared
  %after = add i64 %before, 1
  store i64 %after, ptr %pshared
  %pnext = getelementptr i64, ptr %pool, i64 $NEXT$
  store atomic i64 0, ptr %pnext monotonic, align 8
  %pstate = getelementptr i64, ptr %pool, i64 $STATE$
  store atomic i64 $OPEN$, ptr %pstate release, align 8
  %ppending = getelementptr i64, ptr %pool, i64 $PENDING$
  %pwake = getelementptr i64, ptr %pool, i64 $WAKE$
  br label %wake
wake:
  ; Workers that an earlier launch woke and that have not come yet serve this one.
  %pending = load atomic i64, ptr %ppending monotonic, align 8
  %lack = icmp slt i64 %pending, %made
  br i1 %lack, label %post, label %work
post:
  %posted = atomicrmw add ptr %ppending, i64 1 monotonic
  %woke = call i32 @sem_post(ptr %pwake)
  br label %wake

work:
  %taken = call i64 @take(ptr %pool)
  %t1 = call i64 @clock()
  %closing = atomicrmw and ptr %pstate, i64 $CLOSED$ acq_rel
  %inside = and i64 %closing, $INSIDE$
  %empty = icmp eq i64 %inside, 0
  br i1 %empty, label %unlock, label %look
look:
  %tries = phi i64 [ 0, %work ], [ %tries1, %pause ]
  %now = load atomic i64, ptr %pstate acquire, align 8
  %left = icmp eq i64 %now, 0
  br i1 %left, label %unlock, label %again
again:
  %tries1 = add i64 %tries, 1
  %patient = icmp slt i64 %tries1, $SPINS$
  br i1 %patient, label %pause, label %sleep
pause:
  PAUSE
  br label %look
sleep:
  %waited = atomicrmw or ptr %pstate, i64 $WAITED$ acq_rel
  %gone = icmp eq i64 %waited, 0
  br i1 %gone, label %reset, label %block
block:
  ; A signal may end the wait early.
  %pdone = getelementptr i64, ptr %pool, i64 $DONE$
  %w = call i32 @sem_wait(ptr %pdone)
  %woken = icmp eq i32 %w, 0
  br i1 %woken, label %reset, label %block
reset:
  store atomic i64 0, ptr %pstate monotonic, align 8
  br label %unlock
unlock:
  %t2 = call i64 @clock()
  %own1 = call i64 @llvm.smax.i64(i64 %taken, i64 1)
  %mywork = sub i64 %t1, %t0
  %all = mul i64 %mywork, %count
  %serial = sdiv i64 %all, %own1
  %actual = sub i64 %t2, %t0
  %loss = sub i64 %actual, %serial
  %balance = load atomic i64, ptr %powed monotonic, align 8
  %summed = add i64 %balance, %loss
  %bounded = call i64 @llvm.smax.i64(i64 %summed, i64 -$CREDIT$)
  %bad = icmp sgt i64 %bounded, 0
  %times = mul i64 %bounded, $DEBT$
  %debt = select i1 %bad, i64 %times, i64 %bounded
  store atomic i64 %debt, ptr %powed monotonic, align 8
  store atomic i64 0, ptr %pbusy release, align 8
  ret void
}

declare i32 @clock_gettime(i32, ptr)

; Nanoseconds.
define internal i64 @clock() #0 {
  %now = alloca [2 x i64]
  %e = call i32 @clock_gettime(i32 1, ptr %now)
  %s = load i64, ptr %now
  %pn = getelementptr i64, ptr %now, i64 1
  %n = load i64, ptr %pn
  %ns = mul i64 %s, 1000000000
  %t = add i64 %ns, %n
  ret i64 %t
}

; Takes chunks of the pool's job until none is left; gives how many it took.
define internal i64 @take(ptr %pool) #0 {
entry:
  %pjob = getelementptr i64, ptr %pool, i64 $JOB$
  %kernel = load ptr, ptr %pjob
  %pjob1 = getelementptr i64, ptr %pjob, i64 1
  %buffers = load ptr, ptr %pjob1
  %pjob2 = getelementptr i64, ptr %pjob, i64 2
  %ints = load ptr, ptr %pjob2
  %pjob3 = getelementptr i64, ptr %pjob, i64 3
  %scalars = load ptr, ptr %pjob3
  %pjob4 = getelementptr i64, ptr %pjob, i64 4
  %base = load i64, ptr %pjob4
  %pjob5 = getelementptr i64, ptr %pjob, i64 5
  %n = load i64, ptr %pjob5
  %pjob6 = getelementptr i64, ptr %pjob, i64 6
  %length = load i64, ptr %pjob6
  %pnext = getelementptr i64, ptr %pool, i64 $NEXT$
  br label %one
one:
  %taken = phi i64 [ 0, %entry ], [ %taken1, %run ]
  %c = atomicrmw add ptr %pnext, i64 1 monotonic
  %from = mul i64 %c, %length
  %some = icmp slt i64 %from, %n
  br i1 %some, label %run, label %done
run:
  %to0 = add i64 %from, %length
  %to = call i64 @llvm.smin.i64(i64 %to0, i64 %n)
  %begin = add i64 %base, %from
  %end = add i64 %base, %to
  %r = call i64 %kernel(ptr %buffers, ptr %ints, ptr %scalars, i64 %begin, i64 %end)
  %taken1 = add i64 %taken, 1
  br label %one
done:
  ret i64 %taken
}

; Starts workers until there are `wanted`, with every signal blocked: those are for Python's threads. Gives how many
; there are, at most `wanted`.
define internal i64 @create(ptr %pool, i64 %wanted) #0 {
entry:
  %thread = alloca i64
  %all = alloca [16 x i64]
  %old = alloca [16 x i64]
  %pcreated = getelementptr i64, ptr %pool, i64 $CREATED$
  %created = load i64, ptr %pcreated
  %enough = icmp sge i64 %created, %wanted
  br i1 %enough, label %some, label %prepare
some:
  ret i64 %wanted
prepare:
  call void @llvm.memset.p0.i64(ptr %all, i8 -1, i64 128, i1 false)
  %m = call i32 @pthread_sigmask(i32 2, ptr %all, ptr %old)
  %fresh = icmp eq i64 %created, 0
  br i1 %fresh, label %semaphores, label %next
semaphores:
  %pwake = getelementptr i64, ptr %pool, i64 $WAKE$
  %s0 = call i32 @sem_init(ptr %pwake, i32 0, i32 0)
  %pdone = getelementptr i64, ptr %pool, i64 $DONE$
  %s1 = call i32 @sem_init(ptr %pdone, i32 0, i32 0)
  br label %next
next:
  %k = phi i64 [ 0, %semaphores ], [ %created, %prepare ], [ %k1, %made ]
  %lack = icmp slt i64 %k, %wanted
  br i1 %lack, label %start, label %over
start:
  %failed = call i32 @pthread_create(ptr %thread, ptr null, ptr @worker, ptr %pool)
  %good = icmp eq i32 %failed, 0
  br i1 %good, label %made, label %over
made:
  %id = load i64, ptr %thread
  %d = call i32 @pthread_detach(i64 %id)
  %k1 = add i64 %k, 1
  store i64 %k1, ptr %pcreated
  br label %next
over:
  %u = call i32 @pthread_sigmask(i32 2, ptr %old, ptr null)
  ret i64 %k
}

define internal ptr @worker(ptr %pool) #0 {
entry:
  %pwake = getelementptr i64, ptr %pool, i64 $WAKE$
  %pdone = getelementptr i64, ptr %pool, i64 $DONE$
  %pstate = getelementptr i64, ptr %pool, i64 $STATE$
  %ppending = getelementptr i64, ptr %pool, i64 $PENDING$
  %phelped = getelementptr i64, ptr %pool, i64 $HELPED$
  br label %wait
wait:
  %w = call i32 @sem_wait(ptr %pwake)
  %woken = icmp eq i32 %w, 0
  br i1 %woken, label %awake, label %wait
awake:
  %p = atomicrmw sub ptr %ppending, i64 1 monotonic
  br label %look
look:
  %state = load atomic i64, ptr %pstate monotonic, align 8
  %flag = and i64 %state, $OPEN$
  %shut = icmp eq i64 %flag, 0
  br i1 %shut, label %wait, label %enter
enter:
  %more = add i64 %state, 1
  %got = cmpxchg ptr %pstate, i64 %state, i64 %more acq_rel monotonic
  %in = extractvalue { i64, i1 } %got, 1
  br i1 %in, label %help, label %look
help:
  %taken = call i64 @take(ptr %pool)
  %h = atomicrmw add ptr %phelped, i64 %taken monotonic
  %before = atomicrmw sub ptr %pstate, i64 1 acq_rel
  %last = icmp eq i64 %before, $LAST$
  br i1 %last, label %tell, label %wait
tell:
  %d = call i32 @sem_post(ptr %pdone)
  br label %wait
}
"""
