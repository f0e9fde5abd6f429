"""Native entries of jt.jit: what they check, return and release, against the undecorated function."""

import contextlib
import gc
import subprocess
import sys
import threading
import tracemalloc
import weakref

import numpy as np
import pytest

import jitensor as jt
from jitensor import settings
from jitensor.runtime import entry

pytestmark = pytest.mark.skipif(bool(entry.why_not()), reason=f"no native entries here: {entry.why_not()}")

SCALE = 2.0
COEFFICIENTS = ((1.0, 2.0), 3.5)
TABLE = np.arange(6.0)


@pytest.fixture(autouse=True)
def native_calls():
    before = settings.active().entry
    settings.configure(entry="native")
    yield
    settings.configure(entry=before)


def native(function, *args):
    """The decorated function after enough calls to have an entry for calls like this one."""
    jitted = function if isinstance(function, jt.jit_door.JitFunction) else jt.jit(function)
    for _ in range(4):
        jitted(*args)
    assert jitted._native is not None and jitted._native.installed, reasons(jitted)
    return jitted


def reasons(jitted):
    return [t.only_python for traces in jitted._traces.values() for t in traces]


def python_calls(jitted):
    return sum(t.calls for traces in jitted._traces.values() for t in traces)


def check(jitted, *args, through_python=False):
    """The call agrees with NumPy in value, dtype and kind, and took the path that it should."""
    before, traces = python_calls(jitted), jt.counters().traces
    result = jitted(*args)
    took_python = python_calls(jitted) > before or jt.counters().traces > traces
    expected = jitted.__wrapped__(*args)
    results, wanted = (result, expected) if isinstance(expected, tuple) else ((result,), (expected,))
    assert type(result) is type(expected) and len(results) == len(wanted)
    for a, b in zip(results, wanted, strict=True):
        assert type(a) is type(b)
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-6)
    assert took_python == through_python
    return result


DTYPES = ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
DTYPES += ["float16", "float32", "float64", "complex64", "complex128"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(dtype):
    x = np.arange(7).astype(dtype)
    check(native(lambda a, b: a + b, x, x + x), x, x + x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_scalar_results_of_every_dtype(dtype):
    x = np.arange(1, 8).astype(dtype)
    check(native(lambda a: a.max(), x), x)


def test_new_sizes_stay_native():
    f = native(lambda a, b: a * b + 1.0, np.ones((3, 40)), np.ones(40))
    for n, m in ((2, 50), (30, 9), (5, 4), (100, 70), (1000, 300)):  # the last releases the GIL
        check(f, np.random.rand(n, m), np.random.rand(m))


def test_what_does_not_fit_goes_to_python():
    f = native(lambda a: a * 2.0, np.ones(4))
    check(f, np.ones(4, np.float32), through_python=True)
    check(f, np.ones((2, 2)), through_python=True)
    check(f, np.ones(8)[::2], through_python=True)
    check(f, np.ones(1), through_python=True)
    check(f, np.ones(0), through_python=True)
    assert f(a=np.ones(4))[0] == 2.0
    with pytest.raises(TypeError):
        f()
    with pytest.raises(TypeError):
        f(np.ones(3), np.ones(3))
    check(f, np.ones(4))


def test_subclasses_and_other_objects_go_to_python():
    class Mine(np.ndarray):
        pass

    f = native(lambda a: a * 2.0, np.ones(4))
    before = python_calls(f)
    with contextlib.suppress(TypeError):
        f(np.ones(4).view(Mine))
    assert f(np.float64(3.0)) == 6.0
    assert f(3.0) == 6.0
    check(f, np.ones(4))
    assert python_calls(f) >= before


def test_mismatched_sizes_raise_numpys_error():
    f = native(lambda a, b: a + b, np.ones(4), np.ones(4))
    with pytest.raises(ValueError, match="could not be broadcast together with shapes"):
        f(np.ones(4), np.ones(5))
    check(f, np.ones(6), np.ones(6))


def test_python_numbers():
    f = native(lambda a, x, n: a * x + n, np.ones(4), 2.5, 3)
    check(f, np.ones(4), -1.5, 2**40)
    check(f, np.ones(4), 2, 3, through_python=True)  # an int where a float was
    check(f, np.ones(4), True, 3, through_python=True)


def test_python_ints_that_do_not_fit():
    f = native(lambda a, n: a + n, np.ones(4, np.int8), 3)
    check(f, np.ones(4, np.int8), -128)
    with pytest.raises(OverflowError, match="Python integer 128 out of bounds for int8"):
        f(np.ones(4, np.int8), 128)
    with pytest.raises(OverflowError):
        f(np.ones(4, np.int8), 2**80)


def test_float_arithmetic_between_numbers():
    f = native(lambda a, x, y: a * (x / y - 3.0 * x), np.ones(4), 2.0, 4.0)
    check(f, np.ones(4), 0.1, 0.7)
    with pytest.raises(ZeroDivisionError):
        f(np.ones(4), 1.0, 0.0)
    check(f, np.ones(4), 0.1, 0.7)


def pick(x, n):
    return x * 2 if n == 1 else x * 5


def sum_or_add(x, n):
    return x.sum(axis=n, keepdims=True) if n == 0 else x + n


def look_up(x, n):
    return {1: x * 2, 3: x * 3, 4: x * 4}[n]


def switch(x, n):
    match n:
        case 1:
            return x + 1
        case 3:
            return x + 2
    return x - n


def add_range(x, n):
    return x + np.arange(n)


def range_first(n, x):
    return np.arange(n) + x


def same_numbers(x, n, m):
    return x * 2 if n == m else x * 5


@pytest.mark.parametrize("function", [pick, sum_or_add, look_up, switch, add_range])
@pytest.mark.parametrize("first", [1, 3, 4])
def test_numbers_that_a_condition_fixed(function, first):
    jitted = native(function, np.arange(4.0), 4 if function is add_range else first)
    for size in (4, 3):
        for n in (first, 1, 3, 4, 5, -1):
            try:
                expected = function(np.arange(float(size)), n)
            except (KeyError, ValueError) as error:
                with pytest.raises(type(error)):
                    jitted(np.arange(float(size)), n)
            else:
                np.testing.assert_array_equal(jitted(np.arange(float(size)), n), expected)


def test_a_number_before_the_array_whose_size_it_must_equal():
    jitted = native(range_first, 4, np.arange(4.0))
    check(jitted, 4, np.arange(4.0))
    check(jitted, 3, np.arange(3.0))
    for n, size in ((3, 4), (4, 3)):
        with pytest.raises(ValueError, match="could not be broadcast"):
            jitted(n, np.arange(float(size)))


def square_below(x, n):
    return x * 2 if n * n < 100 else x * 3


def sum_compared(x, n):
    return x if n + 1 > n * 2 else -x


def below_a_big_literal(x, n):
    return x * 2 if n < 10**30 else x * 3


@pytest.mark.parametrize("function", [square_below, sum_compared, below_a_big_literal])
def test_arithmetic_of_numbers_is_unbounded(function):
    x = np.arange(4.0)
    jitted = jt.jit(function)
    for n in (3, 3, 3, 3, 2**40, 2**62, 2**63 - 1, -(2**63), 2**63, 10**31, 5):
        np.testing.assert_array_equal(jitted(x, n), function(x, n))


@pytest.mark.parametrize("first", [(3, 3), (3, 4)])
def test_numbers_that_must_be_equal(first):
    x = np.arange(4.0)
    jitted = native(same_numbers, x, *first)
    for n, m in (first, (1, 1), (3, 3), (2, 1), (4, 3)):
        np.testing.assert_array_equal(jitted(x, n, m), same_numbers(x, n, m))


def test_tuples_and_repeated_results():
    f = native(lambda a: (a + 1, a.sum(), a * 2), np.ones(4))
    check(f, np.arange(4.0))

    def twice(a):
        b = a + 1
        return b, b

    g = native(twice, np.ones(4))
    first, second = g(np.ones(4))
    assert first is second


def test_argument_returned_is_that_object():
    def f(a, n):
        a[1:] += n
        return a

    g = native(f, np.ones(4), 1.0)
    x = np.ones(5)
    assert g(x, 2.0) is x
    np.testing.assert_array_equal(x, [1, 3, 3, 3, 3])


def test_read_only_argument_is_refused():
    def f(a):
        a += 1

    g = native(f, np.ones(4))
    x = np.ones(4)
    x.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        g(x)


def test_overlapping_arguments_give_numpys_answer():
    def f(a, b):
        a[1:] += b[:-1]
        return a.sum()

    g = native(f, np.ones(6), np.ones(6))
    ours, numpys = np.arange(12.0), np.arange(12.0)
    assert g(ours[:6], ours[3:9]) == f(numpys[:6], numpys[3:9])
    np.testing.assert_array_equal(ours, numpys)


def test_globals_and_closures_are_seen(monkeypatch):
    module = sys.modules[__name__]
    local = np.arange(6.0)

    def f(a):
        return a * SCALE + TABLE + local

    g = native(f, np.ones(6))
    check(g, np.ones(6))
    monkeypatch.setattr(module, "SCALE", 5.0)
    check(g, np.ones(6))
    TABLE[0] += 1
    check(g, np.ones(6))
    monkeypatch.setattr(module, "TABLE", np.full(6, 9.0))
    check(g, np.ones(6))
    local = np.zeros(6)
    check(g, np.ones(6))
    monkeypatch.setattr(module, "SCALE", 3)
    assert g(np.ones(6))[0] == 12.0
    monkeypatch.setattr(module, "np", np)


def test_a_global_tuple_of_floats(monkeypatch):
    module = sys.modules[__name__]

    def f(a):
        (b0, b1), b2 = COEFFICIENTS
        c0, c1 = local
        return b0 + a * (b1 + a * b2) + c0 * c1

    local = (0.5, 3.0)
    g = native(f, np.ones(6))
    check(g, np.arange(7.0))
    monkeypatch.setattr(module, "COEFFICIENTS", ((1.0, -2.0), 0.5))
    check(g, np.arange(7.0), through_python=True)
    check(g, np.arange(9.0), through_python=True)
    monkeypatch.setattr(module, "COEFFICIENTS", ((1.0, 2), 0.5))
    check(g, np.arange(9.0), through_python=True)


def test_defaults():
    f = native(lambda a, op=np.exp, flag=None: op(a), np.ones(4))
    check(f, np.ones(4))
    check(f, np.ones(4), np.sqrt, through_python=True)
    check(f, np.ones(4))


def test_keyword_arguments():
    f = jt.jit(lambda a, b, scale=2.0, op=np.add: op(a, b) * scale)
    x, y = np.ones(4), np.arange(4.0)
    for _ in range(4):
        f(x, b=y, scale=3.0)
    assert f._native.installed, reasons(f)
    before = python_calls(f)
    np.testing.assert_array_equal(f(x, b=y, scale=5.0), (x + y) * 5)
    np.testing.assert_array_equal(f(y, b=x, scale=-1.0), -(x + y))
    assert python_calls(f) == before
    np.testing.assert_array_equal(f(x, scale=3.0, b=y), (x + y) * 3)
    np.testing.assert_array_equal(f(x, y, 4.0), (x + y) * 4)
    np.testing.assert_array_equal(f(b=y, a=x, scale=3.0, op=np.subtract), (x - y) * 3)
    assert python_calls(f) == before + 3  # two other forms of the call, one other operation
    with pytest.raises(TypeError):
        f(x, a=x, b=y)
    with pytest.raises(TypeError):
        f(x, b=y, unknown=1)


def test_methods_and_their_instances():
    class Model:
        def __init__(self, k):
            self.k = k

        @jt.jit
        def scaled(self, x):
            return x * self.k

    first, second = Model(3.0), Model(5.0)
    x = np.ones(4)
    for _ in range(4):
        assert first.scaled(x)[0] == 3.0
    assert Model.__dict__["scaled"]._native.installed
    assert second.scaled(x)[0] == 5.0
    gone = weakref.ref(first)
    del first
    gc.collect()
    assert gone() is None, "an entry keeps its instance alive"
    for k in range(20):  # new instances may get the old one's address
        assert Model(float(k)).scaled(x)[0] == k


def test_small_inner_loops_and_other_extents():
    f = native(lambda a: (a * a).sum(-1), np.random.rand(10, 3))
    for k in (3, 4, 8, 9, 100, 3):
        for _ in range(3):
            np.testing.assert_allclose(f(x := np.random.rand(12, k)), (x * x).sum(-1))


def test_rows_longer_than_scratch():
    def softmax(a):
        e = np.exp(a - a.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    f = native(softmax, np.random.rand(4, 100))
    for n in (100, 8192, 8193, 20000):
        for _ in range(2):
            np.testing.assert_allclose(f(x := np.random.rand(3, n)), softmax(x), rtol=1e-12)


def test_counters_count_native_calls():
    f = native(lambda a: a + 1, np.ones(4))
    before = jt.counters()
    for _ in range(10):
        f(np.ones(4))
    spent = jt.counters() - before
    assert (spent.launches, spent.bytes_allocated, spent.traces) == (10, 320, 0)


def test_settings_that_need_the_python_path():
    f = native(lambda a: a + 1, np.ones(4))
    with settings.override(disable_jit=True):
        check(f, np.ones(4), through_python=True)
    check(f, np.ones(4))
    settings.configure(entry="python")
    check(f, np.ones(4), through_python=True)


def test_nothing_leaks():
    f = native(lambda a, b, x: (a + b, (a * x).sum()), np.ones(4), np.ones(4), 2.0)
    a, b = np.ones(4), np.ones(4)
    references = sys.getrefcount(a), sys.getrefcount(b), sys.getrefcount(a.dtype), sys.getrefcount(np.ndarray)
    f(a, b, 2.0)
    f(a, b, 3)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(100_000):
            f(a, b, 2.0)
        for _ in range(1000):
            f(a, b, 3)  # a failed check
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 20_000
    after = sys.getrefcount(a), sys.getrefcount(b), sys.getrefcount(a.dtype), sys.getrefcount(np.ndarray)
    assert all(abs(x - y) <= 12 for x, y in zip(after, references, strict=True))


def test_function_is_collected():
    f = native(lambda a: a + 1, np.ones(4))
    call = f.func
    gone = weakref.ref(f)
    del f
    gc.collect()
    assert call(np.ones(4))[0] == 2.0  # the callable alone still works
    del call
    gc.collect()
    assert gone() is None


def test_many_threads():
    f = native(lambda a, b: np.sqrt(a * b) + 1, np.ones(100_000), np.ones(100_000))
    failures = []

    def work(k):
        x = np.full(100_000 + k, float(k))
        for _ in range(30):
            if not (f(x, x) == k + 1).all():
                failures.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures


def test_python_entry_by_environment():
    code = (
        "import numpy as np, jitensor as jt\n"
        "f = jt.jit(lambda a: a + 1)\n"
        "for _ in range(5): r = f(np.ones(3))\n"
        "print(f._native, r)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code],
        env={**__import__("os").environ, "JITENSOR_ENTRY": "python"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.strip() == "None [2. 2. 2.]"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_matrix_products_go_to_blas(dtype):
    rng = np.random.default_rng(0)

    def made(*shape):
        return rng.standard_normal(shape).astype(dtype)

    forms = {
        "plain": (lambda a, b: a @ b, (5, 7), (7, 3)),
        "left turned": (lambda a, b: a.T @ b, (7, 5), (7, 3)),
        "right turned": (lambda a, b: a @ b.T, (5, 7), (3, 7)),
        "both turned": (lambda a, b: a.T @ b.T, (7, 5), (3, 7)),
        "slices": (lambda a, b: a[1:, 2:] @ b[2:, :-1], (5, 7), (7, 4)),
        "matrix and vector": (lambda a, b: a @ b, (5, 7), (7,)),
        "turned matrix and vector": (lambda a, b: a.T @ b, (7, 5), (7,)),
        "vector and matrix": (lambda a, b: a @ b, (7,), (7, 3)),
        "vector and turned matrix": (lambda a, b: a @ b.T, (7,), (3, 7)),
        "dense layer": (lambda a, b: np.maximum(a @ b + 1, 0), (20, 7), (7, 30)),
    }
    for name, (form, left, right) in forms.items():
        f = jt.jit(form)
        for _ in range(4):
            f(made(*left), made(*right))
        assert f._native is not None, (name, reasons(f))
        before, calls = python_calls(f), jt.counters().library_calls
        a, b = made(*left), made(*right)
        np.testing.assert_allclose(f(a, b), form(a, b), rtol=1e-4, atol=1e-5, err_msg=name)
        assert python_calls(f) == before, name
        assert jt.counters().library_calls == calls + 1


def test_attributes_are_read_at_each_call():
    class Layer:
        def __init__(self, k, w):
            self.k, self.w, self.inner = k, w, None

        @property
        def doubled(self):
            return self.k * 2.0

        @jt.jit
        def scaled(self, x):
            return x * self.k + self.w

        @jt.jit
        def computed(self, x):
            return x * self.doubled

    layer, x = Layer(3.0, np.arange(4.0)), np.ones(4)
    for _ in range(4):
        layer.scaled(x)
    jitted = Layer.__dict__["scaled"]
    assert jitted._native is not None, reasons(jitted)
    before = python_calls(jitted)
    layer.k = 5.0
    np.testing.assert_array_equal(layer.scaled(x), 5 + np.arange(4))
    layer.w = np.full(4, 7.0)
    np.testing.assert_array_equal(layer.scaled(x), np.full(4, 12.0))
    layer.w[0] = 0.0
    np.testing.assert_array_equal(layer.scaled(x), [5, 12, 12, 12])
    assert python_calls(jitted) == before
    layer.k = 2
    np.testing.assert_array_equal(layer.scaled(x), [2, 9, 9, 9])
    del layer.w
    with pytest.raises(AttributeError):
        layer.scaled(x)
    references = sys.getrefcount(layer.k)
    for k in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0):
        layer.k = k
        np.testing.assert_array_equal(layer.computed(x), np.full(4, 2 * k))
    assert sys.getrefcount(2) <= references + 8
