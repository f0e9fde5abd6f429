"""Minimax polynomials for jitensor.scalar (run by hand; the results are literals there).

`fit(g, degree, a, b, weight)` gives the coefficients of the polynomial P of that degree for which the largest
`weight(x) * |P(x) - g(x)|` on [a, b] is about smallest: Lawson's reweighted least squares in 60-digit arithmetic.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import mpmath as mp

mp.mp.dps = 60


def fit(g: Callable, degree: int, a: float, b: float, weight: Callable) -> tuple[list, object]:
    """Coefficients from the constant up, and the largest weighted error found."""
    a, b = mp.mpf(a), mp.mpf(b)
    count = 12 * (degree + 1)
    points = [(a + b) / 2 - (b - a) / 2 * mp.cos(mp.pi * (2 * k + 1) / (2 * count)) for k in range(count)]
    values, weights = [g(x) for x in points], [weight(x) for x in points]
    balance = [mp.mpf(1)] * count
    best: tuple = (mp.inf, [])
    for _ in range(60):
        coefficients = _least_squares(
            points, values, [w * mp.sqrt(v) for w, v in zip(weights, balance, strict=True)], degree
        )
        errors = [
            w * abs(mp.polyval(coefficients[::-1], x) - v) for x, v, w in zip(points, values, weights, strict=True)
        ]
        best = min(best, (max(errors), coefficients), key=lambda p: p[0])
        balance = [v * e for v, e in zip(balance, errors, strict=True)]
        total = sum(balance)
        balance = [v / total for v in balance]
    return best[1], best[0]


def fit_f32(g: Callable, degree: int, a: float, b: float, weight: Callable, first: int = 3) -> list:
    """As `fit`, with the first coefficients rounded to float32 one after the other, the later ones fitted to that."""
    done: list = []
    for i in range(first):

        def rest(x, power=i, known=tuple(done[::-1])):
            x = x if abs(x) > 1e-8 else mp.mpf("1e-8")
            return (g(x) - (mp.polyval(known, x) if known else 0)) / x**power

        found, _ = fit(rest, degree - i, a, b, lambda x, power=i: weight(x) * max(abs(x), mp.mpf("1e-4")) ** power)
        done.append(_rounded(found[0]))
    return done + [_rounded(c) for c in found[1:]]


def _rounded(c: object) -> object:
    return mp.mpf(struct.unpack("<f", struct.pack("<f", float(c)))[0])


def _least_squares(points: list, values: list, weights: list, degree: int) -> list:
    rows = mp.matrix([[w * x**j for j in range(degree + 1)] for x, w in zip(points, weights, strict=True)])
    right = mp.matrix([w * v for v, w in zip(values, weights, strict=True)])
    return list(mp.lu_solve(rows.T * rows, rows.T * right))


if __name__ == "__main__":
    L = mp.log(2) / 2 * mp.mpf("1.0001")
    low, high = (mp.log(2) * (mp.mpf("0.09") + side) for side in (-0.5, 0.5))
    tiny = mp.mpf(10) ** -12

    def at(x):
        return x if abs(x) > tiny else tiny

    def w(x):  # a weight must not vanish
        return max(abs(x), mp.mpf("1e-4"))

    def exp_tail(r):
        return (mp.expm1(at(r)) - at(r)) / at(r) ** 2

    def exp2_tail(r):
        return (mp.expm1(at(r) * mp.log(2)) - at(r) * mp.log(2)) / at(r) ** 2

    for title, g, degree, a, b, weight in (
        ("exp f64: (exp(r)-1-r)/r^2", exp_tail, 9, low, high, lambda r: w(r) ** 2 * mp.exp(-r)),
        ("exp f32", exp_tail, 5, low, high, lambda r: w(r) ** 2 * mp.exp(-r)),
        ("expm1 f64", exp_tail, 10, -L, L, w),
        ("expm1 f32", exp_tail, 5, -L, L, w),
        ("exp2 f64: (2^r-1-r ln2)/r^2", exp2_tail, 9, -0.5, 0.5, lambda r: w(r) ** 2),
        ("exp2 f32", exp2_tail, 4, -0.5, 0.5, lambda r: w(r) ** 2),
    ):  # fmt: skip
        coefficients, worst = fit(g, degree, a, b, weight)
        print(f"{title}: error 2^{float(mp.log(worst, 2)):.1f}")
        print("   ", ", ".join(repr(float(c)) for c in coefficients))
    q = (mp.sqrt(2) - 1) / (mp.sqrt(2) + 1) * mp.mpf("1.001")
    for degree in (5, 6, 7):
        g = lambda z: (2 * mp.atanh(mp.sqrt(at(z))) - 2 * mp.sqrt(at(z))) / mp.sqrt(at(z)) ** 3  # noqa: E731
        coefficients, worst = fit(g, degree, 0, q * q, lambda z: w(mp.sqrt(z)) ** 3)
        print(f"log in z, degree {degree}: error 2^{float(mp.log(worst, 2)):.1f}")
        print("   ", ", ".join(repr(float(c)) for c in coefficients))
    f0, f1 = mp.sqrt(mp.mpf("0.5")) - 1 - mp.mpf("1e-6"), mp.sqrt(2) - 1 + mp.mpf("1e-6")
    for base, inverse in (("e", mp.mpf(1)), ("2", 1 / mp.log(2)), ("10", 1 / mp.log(10))):
        g = lambda f, c=inverse: c * ((mp.log1p(f) - f) / f**2 if abs(f) > 1e-10 else f / 3 - mp.mpf(1) / 2)  # noqa: E731
        coefficients = fit_f32(g, 8, f0, f1, lambda f, c=inverse: w(f) ** 2 / abs(mp.log1p(at(f))) / c)
        print(f"log f32, base {base}: (log(1+f)-f)/f^2")
        print("   ", ", ".join(repr(float(c)) for c in coefficients))
    for degree in (2, 6):

        def g(z):
            s = mp.sqrt(max(abs(z), mp.mpf("1e-6")))
            return (2 * mp.atanh(s) - 2 * s - 2 * s**3 / 3) / s**5 / mp.log(2)

        coefficients, worst = fit(g, degree, 0, q * q, lambda z: w(mp.sqrt(abs(z))) ** 4 * mp.log(2) / 2)
        print(f"pow: log2 beyond s^3 in z, degree {degree}: relative error 2^{float(mp.log(worst, 2)):.1f}")
        print("   ", ", ".join(repr(float(c)) for c in coefficients))
    for degree in (5, 10):
        coefficients, worst = fit(
            lambda r: mp.expm1(at(r) * mp.log(2)) / at(r), degree, -0.5001, 0.5001, lambda r: w(r) * mp.power(2, -r)
        )
        print(f"pow: (2^r-1)/r, degree {degree}: error 2^{float(mp.log(worst, 2)):.1f}")
        print("   ", ", ".join(repr(float(c)) for c in coefficients))
