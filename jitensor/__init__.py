"""jitensor: decorated Python functions become fused native kernels."""

from jitensor import errors as errors
from jitensor.runtime.counters import Counters as Counters
from jitensor.runtime.counters import counters as counters

__version__ = "0.1.0"
