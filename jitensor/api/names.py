"""The public names: what `jt.` and its namespaces show, as data.

Owns the list of names. Everything else that jitensor offers under TensorFlow's names is made elsewhere and filed here.
"""

from __future__ import annotations

import logging
import math
import types as python_types
from typing import Any

from jitensor import errors, nest, tape
from jitensor.api import convert, effects, elementwise, indexing, linear, nn, operators, reductions, scopes, shaping
from jitensor.concrete import ConcreteFunction
from jitensor.function_door import Function, function, functions_run_eagerly, run_functions_eagerly
from jitensor.given_gradients import custom_gradient, recompute_grad
from jitensor.ir import types
from jitensor.ir.types import DType
from jitensor.module import Module
from jitensor.runtime.signature import TensorSpec, TraceType, TracingContext
from jitensor.runtime.tensor_shape import TensorShape
from jitensor.tensor import Tensor
from jitensor.variable import Variable, VariableSpec

_DTYPES: dict[str, Any] = {
    **{t.name: t for t in types.NUMBERS},
    "double": types.float64,
    "half": types.float16,
    "string": types.string,
    "as_dtype": types.as_dtype,
    "DType": DType,
    "cast": convert.cast,
    "complex": elementwise.complex_,
}

_REDUCTIONS = {
    name: getattr(reductions, name)
    for name in (
        *("reduce_sum", "reduce_prod", "reduce_max", "reduce_min", "reduce_mean", "reduce_any", "reduce_all"),
        *("reduce_logsumexp", "argmax", "argmin", "cumsum"),
    )
}

_MATH: dict[str, Any] = {
    **_REDUCTIONS,
    **{n.removeprefix("math."): f for n, f in elementwise.FROM_TABLE.items() if n.startswith("math.")},
    **{
        name: getattr(elementwise, name)
        for name in ("divide", "logical_and", "logical_or", "logical_xor", "logical_not", "rsqrt")
    },
    **{name: getattr(elementwise, name) for name in ("squared_difference", "divide_no_nan", "add_n")},
    **{
        name: getattr(reductions, name)
        for name in ("reduce_std", "reduce_variance", "reduce_euclidean_norm", "count_nonzero")
    },
    **{name: getattr(nn, name) for name in ("softplus", "log_sigmoid", "l2_normalize", "softsign")},
    "truediv": elementwise.divide,
    "pow": elementwise.power,
    "round": elementwise.round_,
    "rint": elementwise.round_,
    "cumprod": reductions.cumprod,
    "softmax": nn.softmax,
    "log_softmax": nn.log_softmax,
    "top_k": indexing.top_k,
    "argmax": reductions.argmax,
    "argmin": reductions.argmin,
    "greater": elementwise.greater,
}

_TOP: dict[str, Any] = {
    **_DTYPES,
    **_REDUCTIONS,
    **{n: f for n, f in elementwise.FROM_TABLE.items() if "." not in n},
    **{
        name: getattr(elementwise, name)
        for name in ("divide", "logical_and", "logical_or", "logical_not", "clip_by_value", "add_n")
    },
    **{
        name: getattr(shaping, name)
        for name in (
            *(
                "shape",
                "shape_n",
                "size",
                "rank",
                "reshape",
                "transpose",
                "expand_dims",
                "squeeze",
                "broadcast_to",
                "concat",
                "stack",
            ),
            *(
                "unstack",
                "split",
                "tile",
                "repeat",
                "reverse",
                "roll",
                "pad",
                "fill",
                "zeros",
                "ones",
                "zeros_like",
                "ones_like",
            ),
            *("linspace", "eye", "one_hot", "broadcast_static_shape"),
        )
    },
    **{
        name: getattr(indexing, name)
        for name in (
            *(
                "where",
                "boolean_mask",
                "unique",
                "gather",
                "gather_nd",
                "tensor_scatter_nd_update",
                "tensor_scatter_nd_add",
            ),
            *("tensor_scatter_nd_sub", "scatter_nd", "sort", "argsort", "searchsorted"),
        )
    },
    **{name: getattr(convert, name) for name in ("constant", "convert_to_tensor", "cast", "identity", "ensure_shape")},
    **{
        name: getattr(scopes, name)
        for name in (
            *(
                "executing_eagerly",
                "inside_function",
                "init_scope",
                "name_scope",
                "device",
                "control_dependencies",
                "group",
                "no_op",
            ),
            *("is_tensor", "get_static_value"),
        )
    },
    **{name: getattr(effects, name) for name in ("numpy_function", "py_function")},
    "truediv": elementwise.divide,
    "pow": elementwise.power,
    "round": elementwise.round_,
    "range": shaping.range_,
    "slice": indexing.slice_,
    "print": effects.print_,
    "Assert": effects.assert_,
    "matmul": linear.matmul,
    "tensordot": linear.tensordot,
    "norm": reductions.norm,
    "newaxis": None,
    "Tensor": Tensor,
    "Variable": Variable,
    "VariableSpec": VariableSpec,
    "Module": Module,
    "custom_gradient": custom_gradient,
    "recompute_grad": recompute_grad,
    **{name: getattr(tape, name) for name in ("GradientTape", "UnconnectedGradients", "gradients")},
    "TensorShape": TensorShape,
    "TensorSpec": TensorSpec,
    "function": function,
    "get_logger": lambda: logging.getLogger("jitensor"),
    "nest": nest,
    "errors": errors,
}

_ASSERTS = {name: f for name, f in vars(effects).items() if name.startswith("assert_") and not name.endswith("assert_")}

_SPACES: dict[str, dict[str, Any]] = {
    "dtypes": _DTYPES,
    "math": _MATH,
    "bitwise": {n.removeprefix("bitwise."): f for n, f in elementwise.FROM_TABLE.items() if n.startswith("bitwise.")},
    "linalg": {
        "matmul": linear.matmul,
        "matrix_transpose": linear.matrix_transpose,
        "tensordot": linear.tensordot,
        "norm": reductions.norm,
        "eye": shaping.eye,
    },
    "nn": {
        **{
            name: getattr(nn, name)
            for name in (
                *(
                    "relu",
                    "relu6",
                    "leaky_relu",
                    "elu",
                    "selu",
                    "softplus",
                    "softsign",
                    "silu",
                    "gelu",
                    "softmax",
                    "log_softmax",
                ),
                *("l2_normalize", "moments", "bias_add", "l2_loss", "sigmoid_cross_entropy_with_logits"),
                *("softmax_cross_entropy_with_logits", "sparse_softmax_cross_entropy_with_logits"),
            )
        },
        "swish": nn.silu,
        "sigmoid": elementwise.FROM_TABLE["nn.sigmoid"],
        "tanh": elementwise.tanh,
        "top_k": indexing.top_k,
    },
    "debugging": {**_ASSERTS, "Assert": effects.assert_, "check_numerics": effects.check_numerics},
    "config": {
        "run_functions_eagerly": run_functions_eagerly,
        "functions_run_eagerly": functions_run_eagerly,
        "list_physical_devices": scopes.list_physical_devices,
        "list_logical_devices": scopes.list_logical_devices,
    },
}

# Named by tutorials of TensorFlow, and not here yet: asking for one says so.
LATER = frozenset(
    (
        *(
            "cond",
            "while_loop",
            "case",
            "switch_case",
            "map_fn",
        ),
        *(
            "scan",
            "TensorArray",
            "autograph",
            "random",
            "Graph",
            "compat",
            "data",
            "keras",
            "train",
            "io",
            "image",
            "RaggedTensor",
        ),
        *(
            "sparse",
            "SparseTensor",
            "saved_model",
            "summary",
            "distribute",
            "einsum",
            "vectorized_map",
        ),
    )
)


def _namespace(name: str, members: dict[str, Any]) -> python_types.ModuleType:
    space = python_types.ModuleType(f"jitensor.{name}", f"TensorFlow's tf.{name} under jitensor.")
    space.__dict__.update(members)
    space.__dict__["__all__"] = sorted(members)
    space.__dict__["__dir__"] = lambda: sorted(members)
    return space


def _build() -> dict[str, Any]:
    public = dict(_TOP)
    for name, members in _SPACES.items():
        public[name] = _namespace(name, members)
    public["math"].__dict__["pi"] = math.pi
    experimental = _namespace(
        "types.experimental",
        {
            "TraceType": TraceType,
            "TracingContext": TracingContext,
            "ConcreteFunction": ConcreteFunction,
            "PolymorphicFunction": Function,
            "GenericFunction": Function,
            "TensorLike": Any,
        },
    )
    public["types"] = _namespace("types", {"experimental": experimental})
    debug = public["debugging"]
    for name in debug.__all__:
        if name.startswith("assert_"):
            public.setdefault(name, getattr(debug, name))
    return public


operators.install()
PUBLIC: dict[str, Any] = _build()


def lookup(name: str) -> Any:
    """A public name. Raises AttributeError, which says of TensorFlow names whether they come later."""
    if name in PUBLIC:
        return PUBLIC[name]
    if name in LATER:
        raise AttributeError(
            f"jitensor has no {name} yet: it comes with a later version (see docs/function.md)", name=name
        )
    raise AttributeError(f"module 'jitensor' has no attribute {name!r}", name=name)
