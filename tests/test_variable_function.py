"""Variables in traced functions: program order, captures and arguments, aliases, failures, creation, threads."""

import gc
import threading
import weakref

import numpy as np
import pytest

import jitensor as jt
from jitensor import settings

compiled = pytest.mark.skipif(settings.active().disable_jit, reason="JITENSOR_DISABLE_JIT is on: nothing is compiled")


def numbers(*values):
    return [np.asarray(v).tolist() for v in values]


def test_reads_and_writes_in_program_order():
    v = jt.Variable(1.0)

    @jt.function
    def f():
        first = v.read_value()
        v.assign(first * 10.0)
        second = v.read_value()
        v.assign_add(5.0)
        v.assign_sub(1.0)
        return first, second, v

    assert numbers(*f()) == [1, 10, 14] and numbers(*f(), v) == [14, 140, 144, 144]


def test_old_values_that_are_returned_stay():
    v = jt.Variable([1.0, 2.0])

    @jt.function
    def f():
        old = v.read_value()
        v.assign_add([1.0, 1.0])
        return old, v.read_value()

    old, new = f()
    f()
    assert numbers(old, new, v) == [[1, 2], [2, 3], [3, 4]]


def test_arguments_are_bound_by_reference_and_share_a_trace():
    @jt.function
    def bump(v, d):
        v.assign_add(d)
        return v * 2.0

    a, b = jt.Variable(1.0), jt.Variable(10.0)
    one = jt.constant(1.0)
    assert numbers(bump(a, one), bump(b, one), bump(b, one), a, b) == [4, 22, 24, 2, 12]
    assert bump.experimental_get_tracing_count() == 1
    bump(jt.Variable(1.0, trainable=False), one)
    assert bump.experimental_get_tracing_count() == 2
    assert float(jt.function(lambda x: x + 1.0, input_signature=[jt.TensorSpec([])])(a)) == 3


PATTERNS = ["ab", "aa", "aba", "aab", "abb", "aaa", "abc"]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_pattern_of_aliases_is_in_the_key(pattern):
    @jt.function
    def f(vs):
        for i, v in enumerate(vs):
            v.assign(v * 2.0 + float(i))
        return [v.read_value() for v in vs]

    for offset in (0.0, 10.0):
        by_name = {c: jt.Variable(offset + i) for i, c in enumerate("abc")}
        plain = {c: offset + i for i, c in enumerate("abc")}
        for i, c in enumerate(pattern):
            plain[c] = plain[c] * 2 + i
        assert numbers(*f([by_name[c] for c in pattern])) == [plain[c] for c in pattern]
    assert f.experimental_get_tracing_count() == 1
    f([jt.Variable(0.0) for _ in pattern])
    assert f.experimental_get_tracing_count() == (1 if len(set(pattern)) == len(pattern) else 2)


def test_an_argument_that_is_also_captured():
    v, w = jt.Variable(1.0), jt.Variable(50.0)

    @jt.function
    def f(x):
        x.assign_add(1.0)
        return v.read_value()

    assert numbers(f(v), f(w), f(v), w) == [2, 2, 3, 51] and f.experimental_get_tracing_count() == 1
    outer = jt.function(lambda x: f(x) + f(x))
    assert numbers(outer(v), outer(w), v, w) == [9, 10, 5, 53]


def test_values_move_between_variables():
    @jt.function
    def rotate(a, b, c):
        first = a.read_value()
        a.assign(b)
        b.assign(c)
        c.assign(first)

    a, b, c = (jt.Variable([float(i)]) for i in range(3))
    for _ in range(4):
        rotate(a, b, c)
    assert numbers(a, b, c) == [[1], [2], [0]]
    a.assign_add([5.0])
    assert numbers(a, b, c) == [[6], [2], [0]]

    @jt.function
    def spread(a, b, c, x):
        a.assign(x)
        b.assign(a)
        c.assign(x + 1.0)
        b.assign_add(c)
        return a

    array = np.array([1.0], np.float32)
    result = spread(a, b, c, array)
    array[0] = 9
    a.assign_add([1.0])
    assert numbers(a, b, c, result) == [[2], [3], [2], [1]]


@compiled
def test_updates_are_in_place_and_allocate_nothing():
    v = jt.Variable(np.ones(10_000, np.float32))

    @jt.function
    def f(x):
        v.assign_sub(x * v)

    x = jt.fill([10_000], 0.25)
    for _ in range(2):
        f(x)
    where = np.asarray(v).ctypes.data
    before = jt.counters()
    for _ in range(3):
        f(x)
    counted = jt.counters() - before
    assert (counted.launches, counted.bytes_allocated, counted.traces) == (3, 0, 0)
    assert np.asarray(v).ctypes.data == where and v.numpy()[0] == np.float32(0.75**5)
    held = v.read_value()
    f(x)
    assert held.numpy()[0] == np.float32(0.75**5) and v.numpy()[0] == np.float32(0.75**6)


def test_writes_before_a_failure_stay_and_later_ones_do_not_happen():
    v = jt.Variable([1.0])

    @jt.function
    def f(x, y):
        jt.debugging.assert_positive(x)
        v.assign_add([1.0])
        jt.debugging.assert_positive(y)
        v.assign_add([10.0])

    good, bad = jt.constant(1.0), jt.constant(-1.0)
    for x, y, after in ((bad, good, 1), (good, bad, 2), (good, good, 13)):
        if x is bad or y is bad:
            with pytest.raises(jt.errors.InvalidArgumentError, match=r"assert_positive.*test_variable_function\.py"):
                f(x, y)
        else:
            f(x, y)
        assert v.numpy().tolist() == [after]
    assert f.experimental_get_tracing_count() == 1


def test_a_misfit_that_only_the_sizes_show_comes_after_the_writes_before_it():
    v = jt.Variable(1.0)

    @jt.function(input_signature=[jt.TensorSpec([None])])
    def f(x):
        v.assign_add(1.0)
        y = x + jt.constant([1.0, 2.0, 3.0])
        v.assign_add(10.0)
        return y

    with pytest.raises(jt.errors.InvalidArgumentError, match=r"test_variable_function.py"):
        f(jt.ones([2]))
    assert float(v) == 2
    f(jt.ones([3]))
    assert float(v) == 13


def test_python_functions_see_the_writes_before_them():
    v = jt.Variable([1.0])

    @jt.function
    def f(x):
        v.assign(x)
        seen = jt.py_function(lambda: v.read_value() * 2.0, [], jt.float32)
        v.assign_add([1.0])
        jt.numpy_function(lambda: v.assign_add([100.0]) and None, [], [])
        return seen, v.read_value()

    assert numbers(*f([3.0]), *f([4.0])) == [[6], [104], [8], [105]]


def test_unknown_sizes():
    v = jt.Variable([1.0, 2.0], shape=[None])

    @jt.function
    def grow(x):
        v.assign(jt.concat([v, x], 0))
        return jt.shape(v)[0], v.shape.as_list()[0] is None

    assert [int(grow(jt.ones([1]))[0]) for _ in range(3)] == [3, 4, 5] and grow.experimental_get_tracing_count() == 1
    total = jt.Variable(0.0)

    @jt.function(input_signature=[jt.TensorSpec([None])])
    def add(x):
        total.assign_add(jt.reduce_sum(jt.boolean_mask(x, x > 0)))
        return total

    assert numbers(add([1.0, -1.0]), add([2.0]), add([-3.0, 4.0, 5.0])) == [1, 3, 12]


def test_reduce_retracing_merges_shapes_of_variables():
    f = jt.function(lambda v: v + 1.0, reduce_retracing=True)
    found = [f(jt.Variable(np.ones(n, np.float32))).numpy().tolist() for n in (2, 3, 4)]
    assert found == [[2.0] * n for n in (2, 3, 4)] and f.experimental_get_tracing_count() == 2


def test_errors_while_tracing():
    v = jt.Variable([1.0, 2.0])
    for body, kind, text in (
        (lambda: v.assign([1.0]), ValueError, "shape"),
        (lambda: v.assign_add(1.0), ValueError, "shape"),
        (lambda: v.assign(jt.constant([1, 2])), ValueError, "float32"),
        (lambda: v.numpy(), NotImplementedError, "numpy_function"),
    ):
        with pytest.raises(kind, match=text):
            jt.function(body)()
    assert v.numpy().tolist() == [1, 2]


def test_a_concrete_function_knows_its_variables():
    v, w = jt.Variable(1.0), jt.Variable(2.0, trainable=False)
    f = jt.function(lambda x: v * w * x)
    c = f.get_concrete_function(jt.TensorSpec([]))
    assert [id(x) for x in c.variables] == [id(v), id(w)] and [id(x) for x in c.trainable_variables] == [id(v)]
    g = jt.function(lambda x, d: x.assign_add(d))
    a = jt.Variable(1.0)
    c = g.get_concrete_function(a, jt.TensorSpec([]))
    assert float(c(a, jt.constant(2.0))) == 3 and c.variables == ()
    with pytest.raises(TypeError, match="missing argument x"):
        c(d=jt.constant(1.0))
    with pytest.raises(TypeError, match="Variable"):
        c(jt.constant(1.0), jt.constant(1.0))
    assert "Variable 0: f32[]" in str(g.explain(a, jt.constant(1.0)))


# Creation -------------------------------------------------------------------------------------------------------------


def test_a_first_call_may_make_variables_and_traces_twice():
    made, traces = {}, []

    @jt.function
    def f(x):
        traces.append(1)
        if not made:
            made["w"] = jt.Variable(x * 2.0 + 1.0)
        return made["w"] * x

    assert numbers(f(jt.constant(3.0)), f(jt.constant(4.0)), made["w"]) == [21, 28, 7]
    assert len(traces) == 2 and f.experimental_get_tracing_count() == 2


def test_initialisers_run_once_and_without_the_rest():
    made, runs = [], []
    total = jt.Variable(0.0)

    @jt.function
    def f(x):
        total.assign_add(1.0)
        jt.numpy_function(lambda: runs.append(1), [], [])
        if not made:
            made.append(jt.Variable(jt.reduce_sum(x) * 2.0))
            made.append(jt.Variable(lambda: 5.0))
        return made[0] + made[1] + x

    f(jt.constant([1.0, 2.0]))
    assert numbers(*made, total) == [6, 5, 1] and len(runs) == 1
    spec = jt.TensorSpec([2])
    late = []

    @jt.function
    def g(x):
        if not late:
            late.append(jt.Variable(x + 1.0))
        return late[0] * 1.0

    concrete = g.get_concrete_function(spec)
    with pytest.raises(jt.errors.FailedPreconditionError, match="no value yet"):
        concrete(jt.constant([1.0, 2.0]))
    assert numbers(g(jt.constant([1.0, 2.0])), g(jt.constant([5.0, 6.0]))) == [[2, 3], [2, 3]]


def test_a_failed_first_call_is_not_remembered():
    made = []

    @jt.function
    def f(x, fail):
        if not made:
            made.append(jt.Variable(jt.ones([2]) * 3.0))
        if fail:
            raise KeyError("no")
        return made[0] * x

    with pytest.raises(KeyError):
        f(jt.constant(1.0), True)
    assert f(jt.constant(2.0), False).numpy().tolist() == [6, 6]


def test_creation_outside_the_first_call_raises():
    every = jt.function(lambda x: x + jt.Variable(1.0))
    for _ in range(2):
        with pytest.raises(ValueError, match="once only"):
            every(jt.constant(1.0))
    made = []

    @jt.function
    def later(x, create):
        if create:
            made.append(jt.Variable(1.0))
        return x + 1.0

    x = jt.constant(1.0)
    assert float(later(x, False)) == 2
    with pytest.raises(ValueError, match="once only"):
        later(x, True)
    assert float(later(x, False)) == 2


def test_methods_make_their_own_variables():
    class Dense(jt.Module):
        def __init__(self, units):
            super().__init__()
            self.units, self.w = units, None

        @jt.function
        def __call__(self, x):
            if self.w is None:
                self.w = jt.Variable(jt.ones([x.shape[-1], self.units]), name="w")
            return x @ self.w

    a, b = Dense(2), Dense(3)
    assert a(jt.ones([1, 4])).shape == [1, 2] and b(jt.ones([1, 5])).shape == [1, 3]
    assert [v.shape.as_list() for v in (*a.variables, *b.variables)] == [[4, 2], [5, 3]]
    outer = jt.function(lambda m, x: m(x))
    c = Dense(2)
    assert outer(c, jt.ones([1, 4])).shape == [1, 2] and len(c.variables) == 1
    alive = weakref.ref(a)
    del a
    gc.collect()
    assert alive() is None


def test_concurrent_updates_all_take_effect():
    v = jt.Variable(np.zeros(1000, np.float32))
    f = jt.function(lambda x: v.assign_add(x))
    one = jt.ones([1000])

    def work():
        for _ in range(50):
            f(one)
            v.assign_add(one)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert v.numpy().tolist() == [400.0] * 1000


def test_the_interpreter_and_the_njit_writer_agree():
    for change in ({"disable_jit": True}, {"backend": "njit"}):
        with settings.override(**change):
            v = jt.Variable([1.0, 2.0])

            @jt.function
            def f(x, v=v):
                old = v.read_value()
                v.assign_sub(x * v)
                v[0].assign(7.0)
                return old + v

            assert numbers(f(jt.constant([0.5, 0.5])), v) == [[8, 3], [7, 1]]


def test_init_scope_does_not_help():
    @jt.function
    def f(x):
        with jt.init_scope():
            v = jt.Variable(1.0)
        return x + v

    with pytest.raises(ValueError, match="once only"):
        f(jt.constant(1.0))
    v = jt.Variable(1.0)

    @jt.function
    def g(x):
        with jt.init_scope():
            v.assign_add(1.0)
        return x + v

    assert numbers(g(1.0), g(1.0), v) == [3, 3, 2]


@pytest.mark.parametrize("name", ["iadd", "isub", "imul", "itruediv", "ipow"])
def test_operators_in_place_raise(name):
    with pytest.raises(RuntimeError, match="assign_add"):
        getattr(jt.Variable(1.0), f"__{name}__")(1.0)


OPERATIONS = ["assign", "add", "sub", "copy", "slice", "mix", "read", "check"]


@pytest.mark.parametrize("seed", range(12))
def test_random_programs_do_what_they_do_eagerly(seed):
    rng = np.random.default_rng(seed)
    program = [(str(rng.choice(OPERATIONS)), *rng.integers(0, 3, 2).tolist()) for _ in range(8)]

    def run(variables, x):
        read = []
        for kind, i, k in program:
            a, b = variables[i], variables[k]
            if kind == "assign":
                a.assign(x * float(i + 1))
            elif kind == "add":
                a.assign_add(b * 0.5)
            elif kind == "sub":
                a.assign_sub(b.read_value())
            elif kind == "copy":
                a.assign(b)
            elif kind == "slice":
                a[1:].assign(b[:-1] + 1.0)
            elif kind == "mix":
                a.assign(jt.sin(a) + jt.reduce_sum(b) * x)
            elif kind == "check":
                jt.debugging.assert_less(jt.reduce_sum(a), 1e6)
            else:
                read.append(b.read_value())
        return read, [v.read_value() for v in variables]

    def fresh():
        return [jt.Variable(np.arange(4, dtype=np.float32) + 10 * i) for i in range(3)]

    x = jt.constant(rng.standard_normal(4).astype(np.float32))
    eager, captured, passed, partly, unknown = (fresh() for _ in range(5))
    functions = {
        "captured": jt.function(lambda x: run(captured, x)),
        "passed": (lambda f: lambda x: f(passed, x))(jt.function(run)),
        "partly": (lambda f: lambda x: f(partly[0], x))(jt.function(lambda v, x: run([v, *partly[1:]], x))),
        "unknown": jt.function(lambda x: run(unknown, x), [jt.TensorSpec([None])]),
    }
    kept = []
    for _ in range(3):
        want = run(eager, x)
        for name, f in functions.items():
            found = f(x)
            kept.append((found, jt.nest.map_structure(lambda t: t.numpy(), found)))
            for a, b in zip(jt.nest.flatten(want), jt.nest.flatten(found), strict=True):
                np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-5, err_msg=f"{name}: {program}")
    for tensors, arrays in kept:
        for t, a in zip(jt.nest.flatten(tensors), jt.nest.flatten(arrays), strict=True):
            np.testing.assert_array_equal(t.numpy(), a)


def views(v):
    return [jt.reshape(v, [-1]), jt.transpose(v), v[1:], v[0], v[:, ::-1], jt.expand_dims(v, 0), jt.identity(v)]


@pytest.mark.parametrize("when", ["before", "after", "both"])
def test_views_of_a_variable_that_is_written_keep_their_elements(when):
    traced, eager = (jt.Variable(np.arange(6, dtype=np.float32).reshape(2, 3)) for _ in range(2))

    def body(v):
        before = views(v) if when != "after" else []
        v.assign_add(jt.ones([2, 3]))
        return before + (views(v) if when != "before" else [])

    f = jt.function(lambda: body(traced))
    kept = [(f(), body(eager)) for _ in range(3)]
    for found, want in kept:
        for a, b in zip(found, want, strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_variables_take_views_without_sharing_what_others_write():
    a, b = jt.Variable(np.arange(6, dtype=np.float32)), jt.Variable(np.zeros((2, 3), np.float32))
    x = np.arange(6, dtype=np.float32)

    @jt.function
    def f(x):
        b.assign(jt.reshape(a, [2, 3]))
        a.assign(x[::-1])

    f(x)
    a.assign_add(np.ones(6, np.float32))
    x[:] = 9
    assert numbers(a, b) == [[6, 5, 4, 3, 2, 1], [[0, 1, 2], [3, 4, 5]]]
    t = jt.constant(np.arange(6, dtype=np.float32))
    jt.function(lambda x: b.assign(jt.reshape(x, [2, 3])))(t)
    b.assign_add(np.ones((2, 3), np.float32))
    assert t.numpy().tolist() == [0, 1, 2, 3, 4, 5]
