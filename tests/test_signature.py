"""The lattice of signatures and the dispatch table, by rule (docs/function.md)."""

import collections
import dataclasses
import enum
import types
import weakref

import numpy as np
import pytest

from jitensor.ir.types import float32, float64, int32, int64, string
from jitensor.runtime.cache import CallType, DispatchTable
from jitensor.runtime.signature import Keyed, Literal, Reference, Sequential, TensorSpec, TraceType, type_of
from jitensor.runtime.tensor_shape import TensorShape

Point = collections.namedtuple("Point", "x y")
OtherPoint = collections.namedtuple("Point", "x y")
Pair = collections.namedtuple("Pair", "x y")


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class ByNumber:
    def __init__(self, n):
        self.n = n

    def __eq__(self, other):
        return getattr(other, "n", None) == self.n

    def __hash__(self):
        return hash(self.n)


EQUAL = [
    (1, 1),
    (float("nan"), float("nan")),
    ("a", np.str_("a")),
    (b"a", np.bytes_(b"a")),
    (None, None),
    (range(3), range(3)),
    ([1, 2], [1, 2]),
    ({"a": 1, "b": 2}, collections.OrderedDict(b=2, a=1)),
    ({"a": 1}, types.MappingProxyType({"a": 1})),
    (Point(1, 2), OtherPoint(1, 2)),
    (np.ones(3), np.zeros(3)),
    (np.float32(1), np.zeros((), np.float32)),
    (Colour.RED, Colour.RED),
    (TensorShape([2]), TensorShape([2])),
    (list, list),
]
DIFFERENT = [
    (1, 2),
    (1, 1.0),
    (1, True),
    (0.0, -0.0),
    (0.0, False),
    (1, 1 + 0j),
    ("a", b"a"),
    (-1, -2),  # equal hashes
    (1, np.int32(1)),
    ([1], (1,)),
    ([1], [1, 1]),
    ([], ()),
    ({"a": 1}, {"b": 1}),
    ({"a": 1}, {"a": 1, "b": 1}),
    (Point(1, 2), Pair(1, 2)),
    (Point(1, 2), (1, 2)),
    (np.ones(3), np.ones(4)),
    (np.ones(3), np.ones(3, np.float32)),
    (np.ones((1,)), np.ones(())),
    (Colour.RED, Colour.BLUE),
    (len, max),
]


@pytest.mark.parametrize("a, b", EQUAL, ids=repr)
def test_equal_types(a, b):
    assert type_of(a) == type_of(b)
    assert hash(type_of(a)) == hash(type_of(b))
    assert type_of(a).is_subtype_of(type_of(b))


@pytest.mark.parametrize("a, b", DIFFERENT, ids=repr)
def test_different_types(a, b):
    assert type_of(a) != type_of(b)
    assert not type_of(a).is_subtype_of(type_of(b))


@pytest.mark.parametrize(
    "value", [{1, 2}, bytearray(b"x"), dataclasses.make_dataclass("Plain", ["n"])(1), weakref.ref(Colour)], ids=repr
)
def test_values_that_can_be_no_key(value):
    with pytest.raises(TypeError):
        type_of(value)


def test_object_arrays_are_refused_and_text_arrays_are_strings():
    with pytest.raises(ValueError, match="Python objects"):
        type_of(np.array([object()], dtype=object))
    assert type_of(np.array(["a", "b"])) == TensorSpec([2], string)


def test_objects_match_by_equality_while_alive():
    first, second, other = ByNumber(1), ByNumber(1), ByNumber(2)
    kept = type_of(first)
    assert kept == type_of(second)
    assert kept != type_of(other)
    del first
    assert kept != type_of(second)
    assert kept.placeholder_value(None) is None


def test_wrapped_objects_are_followed():
    def base():
        pass

    def wrapper():
        pass

    wrapper.__wrapped__ = base
    assert type_of(wrapper) == type_of(base)


def test_user_types_must_be_trace_types():
    class Wrong:
        def __tf_tracing_type__(self, context):
            return 3

    class Incomplete(TraceType):
        def is_subtype_of(self, other):
            return True

    with pytest.raises(TypeError):
        type_of(Wrong())
    with pytest.raises(TypeError):
        Incomplete()


def spec(*sizes, dtype=float32, name=None):
    return TensorSpec(None if sizes == ("?",) else sizes, dtype, name)


SUBTYPES = [  # narrower, wider, holds
    (spec(2, 3), spec(2, 3), True),
    (spec(2, 3), spec(None, 3), True),
    (spec(2, 3), spec(None, None), True),
    (spec(2, 3), spec("?"), True),
    (spec(None, 3), spec(2, 3), False),
    (spec(None, 3), spec(2, None), False),
    (spec("?"), spec(None), False),
    (spec(2), spec(2, dtype=float64), False),
    (spec(2), spec(2, name="x"), False),
    (spec(2, name="x"), spec(2), True),
    (spec(2, name="x"), spec(None, name="x"), True),
]


@pytest.mark.parametrize("narrow, wide, holds", SUBTYPES, ids=repr)
def test_tensor_subtypes(narrow, wide, holds):
    assert narrow.is_subtype_of(wide) is holds


COMMON = [  # a, b, least general type that covers both
    (spec(2), spec(3), spec(None)),
    (spec(2, 3), spec(4, 3), spec(None, 3)),
    (spec(2, 3), spec(2), spec("?")),
    (spec(2), spec(2, dtype=int32), None),
    (Literal(1), Literal(1), Literal(1)),
    (Literal(1), Literal(2), None),
    (Sequential(list, [spec(1)]), Sequential(list, [spec(2)]), Sequential(list, [spec(None)])),
    (Sequential(list, [spec(1)]), Sequential(tuple, [spec(1)]), None),
    (Sequential(list, [spec(1)]), Sequential(list, [spec(1), spec(1)]), None),
    (type_of({"a": np.ones(2)}), type_of({"a": np.ones(3)}), type_of({"a": spec(None, dtype=float64)})),
    (type_of({"a": 1}), type_of({"a": 2}), None),
]


@pytest.mark.parametrize("a, b, wanted", COMMON, ids=repr)
def test_common_supertypes(a, b, wanted):
    assert a.most_specific_common_supertype([b]) == wanted
    if wanted is not None:
        assert a.is_subtype_of(wanted) and b.is_subtype_of(wanted)


def test_structures_flatten_in_one_order_whatever_the_mapping():
    one = type_of({"b": np.ones(1), "a": np.ones(2)})
    two = type_of({"a": np.ones(2), "b": np.ones(1)})
    assert one == two
    assert one.flatten() == two.flatten()
    assert one.to_tensors({"b": 1, "a": 2}) == two.to_tensors({"a": 2, "b": 1})


def test_placeholders_of_containers_keep_the_first_class():
    assert type(type_of(collections.OrderedDict(a=1)).placeholder_value(None)) is collections.OrderedDict
    assert type(type_of(collections.defaultdict(int, a=1)).placeholder_value(None)) is dict
    assert type(type_of(Point(1, 2)).placeholder_value(None)) is Point
    assert type_of(range(2)).placeholder_value(None) == [0, 1]


def test_custom_nests():
    @dataclasses.dataclass
    class Masked:
        kind: str
        values: list

        def __tf_flatten__(self):
            return (self.kind,), (self.values,)

        @classmethod
        def __tf_unflatten__(cls, metadata, components):
            return cls(*metadata, *components)

    assert type_of(Masked("a", [1])) == type_of(Masked("a", [1]))
    assert type_of(Masked("a", [1])) != type_of(Masked("b", [1]))
    assert type_of(Masked("a", [1])).placeholder_value(None) == Masked("a", [1])
    assert isinstance(type_of(Masked("a", [1])), Keyed)


def call(*types, names=None):
    return CallType(tuple(names or [f"a{i}" for i in range(len(types))]), types)


def test_dispatch_takes_the_most_specific_and_the_earliest_of_incomparable():
    table = DispatchTable()
    for sizes in ((2, 3), (2, None), (None, 3), (None, None)):
        table.add(call(spec(*sizes)), sizes)
    assert table.find(call(spec(2, 3))) == (2, 3)
    assert table.find(call(spec(2, 9))) == (2, None)
    assert table.find(call(spec(9, 3))) == (None, 3)
    assert table.find(call(spec(9, 9))) == (None, None)
    assert table.find(call(spec(9))) is None

    ambiguous = DispatchTable()
    ambiguous.add(call(spec(None, 3)), "first")
    ambiguous.add(call(spec(2, None)), "second")
    assert ambiguous.find(call(spec(2, 3))) == "first"


def test_dispatch_forgets_answers_when_a_trace_is_added():
    table = DispatchTable()
    table.add(call(spec(None)), "general")
    assert table.find(call(spec(2))) == "general"
    table.add(call(spec(2)), "exact")
    assert table.find(call(spec(2))) == "exact"
    assert len(table) == 2


def test_generalising_folds_over_the_types_that_have_something_in_common():
    table = DispatchTable()
    table.add(call(spec(2, 3)), 1)
    table.add(call(spec(2, 3, dtype=int64)), 2)
    table.add(call(spec(2, 3), Literal(1)), 3)
    assert table.generalised(call(spec(4, 3))) == call(spec(None, 3))
    assert table.generalised(call(spec(4, 3, dtype=int32))) == call(spec(4, 3, dtype=int32))


def test_tensor_shape():
    shape = TensorShape([None, 3])
    assert str(shape) == "(None, 3)" and repr(shape) == "TensorShape([None, 3])"
    assert str(TensorShape(None)) == "<unknown>" and TensorShape(None).rank is None
    assert shape == (None, 3) and shape[1] == 3 and shape[0] is None and shape[1:] == [3]
    assert shape.rank == 2 and shape.num_elements() is None and not shape.is_fully_defined()
    assert TensorShape([2, 3]).num_elements() == 6
    assert shape.merge_with([2, None]) == [2, 3]
    assert shape.is_compatible_with([5, 3]) and not shape.is_compatible_with([5, 4])
    assert (shape + [4]).as_list() == [None, 3, 4]
    with pytest.raises(ValueError):
        shape.merge_with([2, 4])
    with pytest.raises(ValueError):
        len(TensorShape(None))
    with pytest.raises(ValueError):
        TensorShape([-1])


def test_reference_is_used_for_functions_and_literal_for_what_cannot_be_held_weakly():
    class Slotted:
        __slots__ = ("n",)

        def __eq__(self, other):
            return True

        def __hash__(self):
            return 1

    def function():
        pass

    assert isinstance(type_of(function), Reference)
    assert isinstance(type_of(Slotted()), Literal)
    assert type_of(Slotted()) == type_of(Slotted())
