"""jt.function: what is a new trace, and what a trace is made for (docs/function.md)."""

import collections
import copy
import functools
import gc
import logging
import pickle
import threading
import weakref

import numpy as np
import pytest

import jitensor as jt
from jitensor import counters, events, retracing


def value(nested):
    return jt.nest.map_structure(lambda t: None if t is None else np.asarray(t).tolist(), nested)


class Traced:
    """A function that notes what it is traced for. calls: argument tuples; `log` gets one entry per trace."""

    def __init__(self, body=lambda *args: args[0], **options):
        self.log = []

        def noted(*args):
            self.log.append(tuple(shape_of(a) if isinstance(a, jt.Tensor) else a for a in args))
            return body(*args)

        self.function = jt.function(noted, **options)

    def __call__(self, *args):
        return self.function(*args)

    @property
    def count(self):
        return len(self.log)


def shape_of(tensor):
    return "unknown" if tensor.shape.rank is None else tuple(tensor.shape.as_list())


one = jt.constant(1)
COUNTS = [  # calls, traces after each
    ([(jt.ones([2]),), (jt.zeros([2]),), (jt.ones([3]),), (jt.ones([2]),)], [1, 1, 2, 2]),
    ([(jt.ones([2]),), (np.ones(2, np.float32),), (np.ones(2),), ([1.0, 1.0],)], [1, 1, 2, 3]),
    ([(one, 1), (one, 2), (one, 1), (one, 1.0), (one, True), (one, one)], [1, 2, 2, 3, 4, 5]),
    ([(one, "a"), (one, b"a"), (one, np.str_("a")), (one, None), (one, None)], [1, 2, 2, 3, 3]),
    ([(one, [one]), (one, (one,)), (one, [one]), (one, [one, one]), (one, {"k": one})], [1, 2, 2, 3, 4]),
    ([(one, float("nan")), (one, float("nan")), (one, -1), (one, -2)], [1, 1, 2, 3]),
    ([(one, len), (one, max), (one, len), (one, int), (one, np)], [1, 2, 2, 3, 4]),
    ([(jt.constant("a"),), (jt.constant("b"),), (np.array("c"),), (jt.constant(["c"]),)], [1, 1, 1, 2]),
]


@pytest.mark.parametrize("calls, counts", COUNTS)
def test_traces_after_each_call(calls, counts):
    f = Traced(lambda *args: one)
    for arguments, count in zip(calls, counts, strict=True):
        f(*arguments)
        assert f.count == count == f.function.experimental_get_tracing_count()


def test_spelling_of_arguments_does_not_matter():
    log = []

    @jt.function
    def f(a, b=2, *rest, c=3, **more):
        log.append((b, rest, c, more))
        return a

    f(one), f(one, 2), f(a=one, b=2), f(b=2, a=one, c=3)
    assert len(log) == 1
    f(one, 2, 7), f(one, c=4), f(one, y=1, x=2), f(one, x=2, y=1)
    assert log[1:] == [(2, (7,), 3, {}), (2, (), 4, {}), (2, (), 3, {"x": 2, "y": 1})]
    for wrong in (lambda: f(), lambda: f(one, a=one)):
        with pytest.raises(TypeError):
            wrong()
    assert len(log) == 4


def test_the_body_sees_copies_of_containers():
    @jt.function
    def appends(items):
        items.append(1)
        return items[0]

    @jt.function
    def writes(table):
        table["inner"]["new"] = 1
        return table["a"]

    given = [one]
    with pytest.raises(ValueError, match="should not modify"):
        appends(given)
    with pytest.raises(ValueError, match="should not modify"):
        writes({"a": one, "inner": {}})
    assert len(given) == 1 and appends.experimental_get_tracing_count() == 0


def test_an_object_is_held_weakly_and_its_attributes_are_frozen():
    class Holder:
        n = 1

    holder = Holder()
    f = Traced(lambda x, o: x + o.n)
    assert value(f(one, holder)) == 2
    holder.n = 10
    assert value(f(one, holder)) == 2
    reference = weakref.ref(holder)
    del holder
    gc.collect()
    f.log.clear()
    assert reference() is None
    f(one, Holder())
    assert f.function.experimental_get_tracing_count() == 2


# Relaxed and given shapes ---------------------------------------------------------------------------------------------


def ones(*sizes):
    return jt.ones(list(sizes))


RELAXED = [  # shapes of the calls, shapes traced for
    ([(2,), (3,), (4,), (2,)], [(2,), (None,)]),
    ([(2, 3), (4, 3), (4, 5), (2, 3)], [(2, 3), (None, 3), (None, None)]),
    ([(2,), (2, 2), (3, 3, 3)], [(2,), "unknown"]),
    ([(), (1,), ()], [(), "unknown"]),
]


@pytest.mark.parametrize("shapes, traced", RELAXED, ids=str)
def test_reduce_retracing(shapes, traced):
    f = Traced(lambda x: jt.reduce_sum(x * 2.0), reduce_retracing=True)
    for shape in shapes:
        assert value(f(ones(*shape))) == 2.0 * np.prod(shape, dtype=float)
    assert [t[0] for t in f.log] == traced


def test_reduce_retracing_keeps_families_apart():
    f = Traced(lambda x, *_: x, reduce_retracing=True)
    f(ones(1), 1), f(ones(2), 2), f(jt.ones([3], jt.int32), 1), f(ones(4), 1), f(ones(5), 2)
    f(ones(6)), f(ones(7))
    assert [t[0] for t in f.log] == [(1,), (2,), (3,), (None,), (None,), (6,), (None,)]


def test_input_signature_makes_one_trace_and_casts():
    g = jt.function(lambda x, n: (x * 2.0, n + 1), input_signature=[jt.TensorSpec([None]), jt.TensorSpec([], jt.int32)])
    assert value(g([1, 2.5], True)) == ([2.0, 5.0], 2)
    assert value(g(np.array([1, 2, 3]), np.int64(4))) == ([2.0, 4.0, 6.0], 5)
    assert value(g(n=3, x=(4,))) == ([8.0], 4)
    assert g.experimental_get_tracing_count() == 1
    for wrong in (
        (jt.constant([1]), 1),
        (jt.constant([1.0]), 1.5),
        (jt.constant([[1.0]]), 1),
        ([[1.0], [1.0, 2.0]], 1),
        (None, 1),
        ("a", 1),
        ([1.0],),
        ([1.0], 1, 1),
    ):
        with pytest.raises(TypeError):
            g(*wrong)
    assert g.experimental_get_tracing_count() == 1 and g.input_signature[0] == jt.TensorSpec([None])


SPEC = jt.TensorSpec([], jt.int32)


@pytest.mark.parametrize(
    "function, signature",
    [
        (lambda x: x, SPEC),
        (lambda x: x, [3]),
        (lambda x: x, [SPEC, SPEC]),
        (lambda x, y: x, [SPEC]),
        (lambda x, *, k: x, [SPEC]),
    ],
)
def test_input_signature_is_checked_when_decorating(function, signature):
    with pytest.raises(TypeError):
        jt.function(function, input_signature=signature)


def test_input_signature_freezes_other_defaults():
    f = jt.function(lambda x, n=2, *, k=3: x * n * k, input_signature=[SPEC])
    assert value(f(1)) == 6 and value(f(1, 2)) == 6 and value(f(1, k=3)) == 6
    with pytest.raises(TypeError):
        f(1, 5)
    g = jt.function(lambda *xs: xs[0] - xs[1], input_signature=[SPEC, SPEC])
    assert value(g(5, 2)) == 3
    with pytest.raises(TypeError):
        g(1)
    nothing = jt.function(lambda: one, input_signature=[])
    assert value(nothing()) == 1
    nested = jt.function(lambda d: d["a"][0] + d["b"], input_signature=[{"a": [SPEC], "b": SPEC}])
    assert value(nested({"b": 1, "a": [2]})) == 3
    with pytest.raises(TypeError):
        nested({"a": [1]})


def test_input_signature_of_methods_skips_self():
    class Model:
        @jt.function(input_signature=[SPEC])
        def double(self, x):
            return x * 2

    model = Model()
    assert value(model.double(4)) == 8
    assert value(model.double.get_concrete_function()(jt.constant(5))) == 10
    assert value(Model.double(model, 6)) == 12


# Methods, copies ------------------------------------------------------------------------------------------------------


def test_each_instance_has_its_own_traces_and_is_not_kept_alive():
    class Model:
        def __init__(self, k):
            self.k = k

        @jt.function
        def scale(self, x):
            return x * self.k

        @staticmethod
        @jt.function
        def still(x):
            return x

    a, b = Model(2), Model(3)
    assert value([a.scale(one), b.scale(one), a.still(one), Model(5).scale(one)]) == [2, 3, 1, 5]
    assert a.scale is a.scale and a.scale is not b.scale
    assert a.scale.experimental_get_tracing_count() == 1
    assert Model.scale.experimental_get_tracing_count() == 0
    reference = weakref.ref(a)
    del a
    gc.collect()
    assert reference() is None


def test_super_and_overriding():
    class Base:
        @jt.function
        def f(self, x):
            return x + 1

    class Derived(Base):
        @jt.function
        def f(self, x):
            return super().f(x) * 10 + Base.f(self, x)

    assert value(Derived().f(one)) == 22


def test_copies():
    f = jt.function(lambda x: x + 1)
    fresh = copy.deepcopy(f)
    f(one)
    shallow = copy.copy(f)
    shallow(one), shallow(jt.constant([1]))
    assert f.experimental_get_tracing_count() == 2 and fresh.experimental_get_tracing_count() == 0
    for wrong in (copy.deepcopy, lambda g: pickle.dumps(g)):
        with pytest.raises(TypeError):
            wrong(f)


@jt.function
def at_module_level(x):
    return x + 1


def test_pickling_by_name():
    assert pickle.loads(pickle.dumps(at_module_level)) is at_module_level


def test_callables_of_every_kind():
    class Callable:
        def __call__(self, x):
            return x + 1

    bound = Callable()
    assert value(jt.function(bound)(one)) == 2
    assert value(jt.function(functools.partial(lambda a, x: a * x, 3))(one)) == 3
    assert value(jt.function(bound.__call__)(one)) == 2
    assert value(jt.function(jt.function(lambda a, b=2: a - b))(b=one, a=jt.constant(5))) == 4
    for wrong in (3, "text"):
        with pytest.raises(TypeError):
            jt.function(wrong)
    with pytest.raises(TypeError):
        jt.function()(3)


# Nesting, captures, outputs -------------------------------------------------------------------------------------------


def test_inner_functions_share_their_traces_with_eager_callers():
    inner = Traced(lambda x: x * x)
    outer = Traced(lambda x: inner(x) + inner(x + 1))
    assert value(outer(jt.constant(2))) == 13 and inner.count == 1
    assert value(inner(jt.constant(5))) == 25 and inner.count == 1
    outer(jt.constant([1]))
    assert (outer.count, inner.count) == (2, 2)


def test_inner_functions_may_capture_the_outer_traces_tensors():
    @jt.function
    def outer(x):
        doubled = x * 2

        @jt.function
        def inner(z):
            @jt.function
            def innermost():
                return doubled + z

            return innermost() * 1

        return inner(x) + inner(jt.constant(1.0))

    assert value(outer(jt.constant(3.0))) == 16.0
    assert value(outer(jt.constant(4.0))) == 21.0


def test_leaked_tensors_are_an_error_elsewhere():
    kept = []
    jt.function(lambda x: kept.append(x * 2) or x)(one)
    for use in (jt.function(lambda x: x + kept[0]), lambda x: x + kept[0]):
        with pytest.raises(TypeError):
            use(one)
    with pytest.raises(AttributeError):
        kept[0].numpy()


def test_captured_values_are_those_of_the_trace():
    array, items, tensor = np.array([1.0], np.float32), [2.0], jt.constant([3.0])
    f = jt.function(lambda x: x + array + items[0] + tensor)
    assert value(f(jt.zeros([1]))) == [6.0]
    array[0], items[0], tensor = 100, 100, jt.constant([100.0])
    assert value(f(jt.zeros([1]))) == [6.0]
    large = jt.constant(np.arange(1000.0))
    assert value(jt.function(lambda i: large[i])(jt.constant(7))) == 7.0


def test_outputs_keep_their_structure():
    Point = collections.namedtuple("Point", "x y")

    @jt.function
    def f(x):
        return {"z": [x, (x + 1,)], "a": None, "n": 3, "p": Point(x, 2.5), "e": [[], ()], "s": "text", "np": np.ones(2)}

    result = f(one)
    assert list(result) == ["z", "a", "n", "p", "e", "s", "np"] and isinstance(result["p"], Point)
    assert result["n"].dtype == "int32" and result["p"].y.dtype == "float32" and result["np"].dtype == "float64"
    assert result["a"] is None and result["e"] == [[], ()] and result["s"].numpy() == b"text"
    assert value(result["z"]) == [1, (2,)]
    assert jt.function(lambda: None)() is None
    assert type(jt.function(lambda: collections.OrderedDict(b=1, a=2))()) is collections.OrderedDict

    class Other:
        pass

    def generator():
        yield 1

    for wrong in (lambda: Other(), lambda: [1, Other()], lambda: {1, 2}, generator):
        with pytest.raises(TypeError):
            jt.function(wrong)()


def test_an_argument_may_be_returned_as_it_is():
    f = jt.function(lambda x, y: (x, x + y, jt.constant(7), x))
    first, total, seven, again = f(one, one)
    assert value([first, total, seven, again]) == [1, 2, 7, 1]


def test_exceptions_of_the_body_pass_unchanged_and_leave_no_trace():
    class Mine(KeyError):
        pass

    fail = [True]

    @jt.function
    def f(x):
        if fail:
            raise Mine("no")
        return x + 1

    for _ in range(2):
        with pytest.raises(Mine):
            f(one)
    assert f.experimental_get_tracing_count() == 0
    fail.clear()
    assert value(f(one)) == 2


# Effects --------------------------------------------------------------------------------------------------------------


def test_effects_run_at_every_call_in_order():
    seen = []

    @jt.function
    def f(x):
        jt.numpy_function(lambda a: seen.append(("first", int(a))), [x], [])
        y = jt.numpy_function(lambda a: a * 2, [x], jt.int32)
        jt.debugging.assert_less(x, 10)
        jt.py_function(lambda t: seen.append(("second", int(t))), [y], [])
        return y + 1

    f.get_concrete_function(jt.TensorSpec([], jt.int32))
    assert seen == []
    assert value(f(jt.constant(3))) == 7 and value(f(jt.constant(4))) == 9
    assert seen == [("first", 3), ("second", 6), ("first", 4), ("second", 8)]
    with pytest.raises(jt.errors.InvalidArgumentError):
        f(jt.constant(20))
    assert seen[-1] == ("first", 20)


def test_checks_and_prints(capsys):
    @jt.function
    def f(x):
        jt.print("x is", x, sep="|")
        jt.debugging.assert_equal(x, 1, message="must be one")
        return x

    assert value(f(one)) == 1
    with pytest.raises(jt.errors.InvalidArgumentError, match="must be one"):
        f(jt.constant(2))
    assert capsys.readouterr().err == "x is|1\nx is|2\n"
    jt.debugging.assert_positive([1, 2])
    for wrong in (
        lambda: jt.debugging.assert_positive([0]),
        lambda: jt.debugging.assert_greater(1, 2),
        lambda: jt.debugging.Assert(False, [one]),
        lambda: jt.debugging.check_numerics(jt.constant([np.nan]), "here"),
    ):
        with pytest.raises(jt.errors.InvalidArgumentError):
            wrong()


def test_init_scope_runs_eagerly_at_trace_time():
    seen = []

    @jt.function
    def f(x):
        with jt.init_scope():
            seen.append((jt.executing_eagerly(), value(jt.constant(2) * 3)))
        seen.append(jt.executing_eagerly())
        with jt.name_scope("scope"), jt.device("/CPU:0"), jt.control_dependencies([x]):
            return x + 1

    assert value(f(one)) == 2 and seen == [(True, 6), False]


def test_run_functions_eagerly():
    f = jt.function(lambda x: x, input_signature=[SPEC])
    jt.config.run_functions_eagerly(True)
    try:
        assert jt.config.functions_run_eagerly() and f("anything") == "anything"
    finally:
        jt.config.run_functions_eagerly(False)
    assert f.experimental_get_tracing_count() == 0
    with pytest.raises(TypeError):
        f("anything")


# Concrete functions ---------------------------------------------------------------------------------------------------


def test_concrete_functions():
    f = jt.function(lambda x, n, y=1: x * n + y)
    concrete = f.get_concrete_function(jt.TensorSpec([None], jt.int32), 3)
    assert f.get_concrete_function(jt.constant([1, 2]), 3) is concrete
    given = jt.constant([1, 2])
    for call in (
        lambda: concrete(given),
        lambda: concrete(given, 3),
        lambda: concrete(given, 3, 1),
        lambda: concrete(x=given),
    ):
        assert value(call()) == [4, 7]
    for wrong in (
        lambda: concrete(given, 4),
        lambda: concrete(),
        lambda: concrete(given, 3, 1, 1),
        lambda: concrete(given, z=1),
        lambda: concrete(jt.constant([1.0])),
        lambda: concrete(jt.constant([[1]])),
    ):
        with pytest.raises(TypeError):
            wrong()
    assert f.experimental_get_tracing_count() == 1
    del f
    gc.collect()
    assert value(concrete(given)) == [4, 7]


def test_concrete_functions_take_structures_and_flat_tensors():
    f = jt.function(lambda d, k: d["a"] - d["b"][0])
    spec = jt.TensorSpec([], jt.int32)
    concrete = f.get_concrete_function({"a": spec, "b": [spec]}, "text")
    assert value(concrete({"b": [jt.constant(2)], "a": jt.constant(5)})) == 3
    assert value(concrete(jt.constant(5), jt.constant(2))) == 3


def test_what_a_concrete_function_tells():
    big = jt.constant([1.0, 2.0])

    def f(x, *, scale=2):
        return {"s": jt.reduce_sum(x * big), "p": (x, None)}

    concrete = jt.function(f).get_concrete_function(jt.TensorSpec([2], jt.float32))
    args, kwargs = concrete.structured_input_signature
    assert args == (jt.TensorSpec([2], jt.float32, name="x"),) and kwargs == {"scale": 2}
    assert concrete.structured_outputs == {"s": jt.TensorSpec([]), "p": (jt.TensorSpec([2]), None)}
    assert concrete.output_shapes["s"] == [] and concrete.output_dtypes["p"][0] == "float32"
    assert len(concrete.inputs) == 2 and concrete.captured_inputs[0] is big and len(concrete.outputs) == 2
    text = concrete.pretty_printed_signature()
    assert [line for line in text.splitlines() if not line.startswith(" ")] == [
        "Input Parameters:",
        "Output Type:",
        "Captures:",
    ]
    assert "x (POSITIONAL_OR_KEYWORD): TensorSpec(shape=(2,), dtype=tf.float32, name=None)" in text


# The warning, threads, counters ---------------------------------------------------------------------------------------


def warnings_of(pattern, caplog):
    """Numbers of the warnings after calls where True means a new shape."""
    f = jt.function(lambda x: x)
    size = 1
    with caplog.at_level(logging.WARNING, logger="jitensor"):
        for new in pattern:
            size += new
            f(jt.ones([size]))
    return [record.args[:2] for record in caplog.records]


@pytest.mark.parametrize(
    "pattern, wanted",
    [
        ([True] * 4, []),
        ([True] * 5, [(5, 5)]),
        ([True] * 9, [(5, 5), (6, 6)]),
        ([True, False, False] * 5, [(5, 13)]),
        ([True, False, False, False] * 6, []),
    ],
    ids=["four", "five", "at most two", "every third", "every fourth"],
)
def test_retrace_warning(pattern, wanted, caplog):

    retracing._detectors.clear()
    assert warnings_of(pattern, caplog) == wanted


def test_threads_share_one_trace():
    f = Traced(lambda x: x + 1)
    results, barrier = [], threading.Barrier(6)

    def work(n):
        barrier.wait()
        results.append(value(f(jt.constant(n))))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [1, 2, 3, 4, 5, 6] and f.count == 1


def test_a_failed_binding_does_not_block_other_threads():
    f = jt.function(lambda x: x)
    with pytest.raises(TypeError):
        f()
    thread = threading.Thread(target=f, args=(one,), daemon=True)
    thread.start()
    thread.join(timeout=20)
    assert not thread.is_alive()


def test_a_trace_is_counted_and_a_hit_is_not():
    f = jt.function(lambda x: x + 1)
    before = counters()
    f(one), f(one), f(jt.constant([1, 2]))
    assert (counters() - before).traces == 2


def test_options():
    with pytest.raises(ValueError):
        jt.function(lambda x: x, experimental_attributes={"no_such": 1})
    f = jt.function(lambda x, n: x + n, experimental_implements="name")
    f(one, 1), f(one, 2)
    assert f.experimental_get_tracing_count() == 1
    with pytest.raises(ValueError):
        f.experimental_get_compiler_ir(one, 1)
    assert jt.function(lambda x: x, jit_compile=True)(one) is not None


def test_numpy_ufuncs_record_on_traced_tensors():
    f = jt.function(lambda x: np.sqrt(x) + np.maximum(np.float32(1), x))
    assert value(f(jt.constant([4.0]))) == [6.0]
    with pytest.raises(NotImplementedError):
        jt.function(lambda x: np.array(x))(one)
    with pytest.raises(TypeError):
        jt.function(lambda x: np.add.reduce(x))(jt.constant([1]))


@pytest.mark.parametrize(
    "body",
    [
        lambda x: 1 if x > 0 else 2,
        lambda x: [1, 2, 3][x],
        lambda x: float(x),
        lambda x: list(range(x)),
        lambda x: x and x,
        lambda x: list(jt.stack([x, x])),
    ],
)
def test_values_needed_while_tracing(body):
    with pytest.raises(jt.errors.OperatorNotAllowedInGraphError, match=r"test_function_rules\.py"):
        jt.function(body)(one)


def test_arguments_in_containers_keep_their_places():
    f = jt.function(lambda d: d["w"] - d["b"][0])
    assert value(f({"w": jt.constant([5, 6]), "b": [jt.constant(1)]})) == [4, 5]
    assert value(f({"b": [jt.constant(2)], "w": jt.constant([5, 6])})) == [3, 4]
    g = jt.function(lambda name, x, other: (other, x + 1, name))
    assert value(g("a", one, jt.constant("b"))[1]) == 2


def test_a_mutable_default_keys_by_its_present_content():
    default = [1]
    f = jt.function(lambda x, items=default: x + len(items))
    assert value(f(one)) == 2
    default.append(1)
    assert value(f(one)) == 3 and f.experimental_get_tracing_count() == 2


def test_a_retrace_is_told_with_its_reason():
    f = jt.function(lambda x, n: x * n)
    f(jt.ones([2, 3]), 1.0)
    with events.collect() as told:
        f(jt.ones([4, 3]), 1.0), f(jt.ones([4, 3]), 2.0), f(jt.ones([4, 3]), 2.0)
    reasons = [str(event.fields["reason"]) for event in told if event.name == "retrace"]
    assert len(reasons) == 2
    assert "x was f32[2, 3], now f32[4, 3]" in reasons[0] and "TensorSpec([None, 3], float32)" in reasons[0]
    assert "n was 1.0, now 2.0" in reasons[1] and "test_function_rules.py" in reasons[1]


def test_numpy_arguments_that_change_later():
    array = np.array([1.0, 2.0], np.float32)
    passed, doubled = jt.function(lambda x: (x, x * 2.0))(array)
    kept = []
    jt.function(lambda x: jt.py_function(lambda t: kept.append(t), [x], []))(array)
    baked = jt.function(lambda: jt.function(lambda x: x + 1.0)(array))
    baked()
    array[:] = 9
    assert value([passed, doubled, kept[0], baked()]) == [[1, 2], [2, 4], [1, 2], [2, 3]]
    strided, swapped = np.arange(6, dtype=np.int32)[::-2], np.array([1, 2], ">i4")
    assert value(jt.function(lambda x: x + 1)(strided)) == [6, 4, 2]
    assert value(jt.function(lambda x: x + 1)(swapped)) == [2, 3]


def test_a_known_shape_is_a_result():
    assert value(jt.function(lambda x: x.shape)(jt.ones([2, 3]))) == [2, 3]
    with pytest.raises(TypeError):
        jt.function(lambda x: x.shape, input_signature=[jt.TensorSpec([None])])(jt.ones([2]))
