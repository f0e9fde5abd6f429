"""Plain NumPy functions that are worth compiling; the demo and the benchmarks run them.

Must not know jitensor: these are the functions that a person would have written. `erf` is SciPy's, None without it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

try:
    from scipy.special import erf
except ImportError:  # the options part then says what to install
    erf = None

Array = Any


# ---- options -------------------------------------------------------------------------------------------------------
def normal_cdf(x: Array) -> Array:
    """Return the cumulative distribution of the standard normal at x."""
    return 0.5 * (1.0 + erf(x * 0.7071067811865476))


def black_scholes(spot: Array, strike: Array, years: Array, rate: float, volatility: float) -> tuple[Array, Array]:
    """Return the prices of a European call and put (Black and Scholes 1973, equation 13, and put-call symmetry)."""
    spread = volatility * np.sqrt(years)
    d1 = (np.log(spot / strike) + (rate + 0.5 * volatility * volatility) * years) / spread
    d2 = d1 - spread
    discounted = strike * np.exp(-rate * years)
    n1 = normal_cdf(d1)
    n2 = normal_cdf(d2)
    return spot * n1 - discounted * n2, discounted * (1.0 - n2) - spot * (1.0 - n1)


# ---- seawater ------------------------------------------------------------------------------------------------------
def horner(coefficients: tuple[float, ...], x: Array) -> Array:
    """Return the polynomial with these coefficients, lowest power first, at x."""
    total = coefficients[-1]
    for coefficient in coefficients[-2::-1]:
        total = coefficient + x * total
    return total


def slope(coefficients: tuple[float, ...]) -> tuple[float, ...]:
    """Return the coefficients of the polynomial's derivative."""
    return tuple(power * coefficient for power, coefficient in enumerate(coefficients))[1:]


# Coefficients v01 .. v48 of the 48-term expression for the specific volume of seawater, as polynomials in Conservative
# Temperature: IOC, SCOR and IAPSO (2010), "The international thermodynamic equation of seawater - 2010", Manuals and
# Guides 56, appendices A.30 and K. The specific volume is (a0 + a1 p + a2 p^2 + a3 p^3) / (b0 + 2 b1 p + b2 p^2).
B0 = (9.998420897506056e2, 2.839940833161907, -3.147759265588511e-2, 1.181805545074306e-3)
B0_S = (-6.698001071123802, -2.986498947203215e-2, 2.327859407479162e-4)
B0_S3_2 = (-3.988822378968490e-2, 5.095422573880500e-4, -1.426984671633621e-5, 1.645039373682922e-7)
TWICE_B1 = (-2.233269627352527e-2, -3.436090079851880e-4, 3.726050720345733e-6)
TWICE_B1_S = (-1.806789763745328e-4, 6.876837219536232e-7)
B2 = (-3.087032500374211e-7, -1.988366587925593e-8, -1.061519070296458e-11)
B2_S = 1.550932729220080e-10
A0 = (1.0, 2.775927747785646e-3, -2.349607444135925e-5, 1.119513357486743e-6, 6.743689325042773e-10)
A0_S = (
    -7.521448093615448e-3, -2.764306979894411e-5, 1.262937315098546e-7, 9.527875081696435e-10, -1.811147201949891e-11,
)  # fmt: skip
A0_S3_2 = (
    -3.303308871386421e-5, 3.801564588876298e-7, -7.672876869259043e-9, -4.634182341116144e-11, 2.681097235569143e-12,
)  # fmt: skip
A0_S2 = 5.419326551148740e-6
A1 = (-2.742185394906099e-5, -3.212746477974189e-7, 3.191413910561627e-9, -1.931012931541776e-12)
A1_S = (-1.105097577149576e-7, 6.211426728363857e-10)
A2 = (-1.119011592875110e-10, -1.941660213148725e-11, -1.864826425365600e-14)
A2_ST = 1.119522344879478e-14
A3 = (-1.200507748551599e-15, 6.057902487546866e-17)
# Derivatives by temperature.
B0_T = slope(B0)
B0_S_T = slope(B0_S)
B0_S3_2_T = slope(B0_S3_2)
TWICE_B1_T = slope(TWICE_B1)
B2_T = slope(B2)
A0_T = slope(A0)
A0_S_T = slope(A0_S)
A0_S3_2_T = slope(A0_S3_2)
A1_T = slope(A1)
A2_T = slope(A2)


def seawater(salinity: Array, temperature: Array, pressure: Array) -> Array:
    """Return d(dynamic enthalpy)/d(temperature) in J/(kg K) of seawater: about 250 operations, two logarithms.

    salinity: absolute salinity in g/kg; temperature: Conservative Temperature in degrees C; pressure: in dbar. The
    specific volume is split into a linear part and partial fractions, integrated over pressure in closed form, and
    differentiated by hand; `_t` marks a derivative by temperature.
    """
    s, t, p = salinity, temperature, pressure
    root = np.sqrt(s)
    b0 = horner(B0, t) + s * (horner(B0_S, t) + root * horner(B0_S3_2, t))
    b0_t = horner(B0_T, t) + s * (horner(B0_S_T, t) + root * horner(B0_S3_2_T, t))
    b1 = 0.5 * (horner(TWICE_B1, t) + s * horner(TWICE_B1_S, t))
    b1_t = 0.5 * (horner(TWICE_B1_T, t) + s * TWICE_B1_S[1])
    b2 = horner(B2, t) + B2_S * s
    b2_t = horner(B2_T, t)
    a0 = horner(A0, t) + s * (horner(A0_S, t) + A0_S2 * s + root * horner(A0_S3_2, t))
    a0_t = horner(A0_T, t) + s * (horner(A0_S_T, t) + root * horner(A0_S3_2_T, t))
    a1 = horner(A1, t) + s * horner(A1_S, t)
    a1_t = horner(A1_T, t) + s * A1_S[1]
    a2 = horner(A2, t) + A2_ST * (s * t)
    a2_t = horner(A2_T, t) + A2_ST * s
    a3 = horner(A3, t)
    a3_t = A3[1]

    # Division with remainder: v = q0 + q1 p + (r0 + r1 p) / (b0 + 2 b1 p + b2 p^2).
    over_b2 = 1.0 / b2
    q1 = a3 * over_b2
    q1_t = (a3_t - q1 * b2_t) * over_b2
    q0 = (a2 - 2.0 * b1 * q1) * over_b2
    q0_t = (a2_t - 2.0 * (b1_t * q1 + b1 * q1_t) - q0 * b2_t) * over_b2
    r1 = a1 - 2.0 * b1 * q0 - b0 * q1
    r1_t = a1_t - 2.0 * (b1_t * q0 + b1 * q0_t) - b0_t * q1 - b0 * q1_t
    r0 = a0 - b0 * q0
    r0_t = a0_t - b0_t * q0 - b0 * q0_t

    # The integral of r1 p / denominator gives a logarithm of the denominator ...
    half_ratio = 0.5 * r1 * over_b2
    half_ratio_t = 0.5 * (r1_t - 2.0 * half_ratio * b2_t) * over_b2
    growth = p * (2.0 * b1 + b2 * p) / b0
    growth_t = (p * (2.0 * b1_t + b2_t * p) - growth * b0_t) / b0
    first_log = np.log(1.0 + growth)
    first_log_t = growth_t / (1.0 + growth)

    # ... and that of the rest one of the ratio of its two linear factors, with roots apart by `gap`.
    rest = r0 - 2.0 * half_ratio * b1
    rest_t = r0_t - 2.0 * (half_ratio_t * b1 + half_ratio * b1_t)
    gap = np.sqrt(b1 * b1 - b0 * b2)
    gap_t = (b1 * b1_t - 0.5 * (b0_t * b2 + b0 * b2_t)) / gap
    near = b1 - gap
    far = b1 + gap + b2 * p
    ratio = 2.0 * b2 * p * gap / (near * far)
    ratio_t = ratio * (b2_t * over_b2 + gap_t / gap - (b1_t - gap_t) / near - (b1_t + gap_t + b2_t * p) / far)
    second = np.log(1.0 + ratio) / (2.0 * gap)
    second_t = ratio_t / ((1.0 + ratio) * (2.0 * gap)) - second * gap_t / gap

    linear_t = p * (q0_t + 0.5 * q1_t * p)
    logs_t = half_ratio_t * first_log + half_ratio * first_log_t + rest_t * second + rest * second_t
    return 1e4 * (linear_t + logs_t)


# ---- photographs ---------------------------------------------------------------------------------------------------
def to_linear(encoded: Array) -> Array:
    """Return light intensities of sRGB values in 0 .. 1 (IEC 61966-2-1)."""
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def to_srgb(linear: Array) -> Array:
    """Return sRGB values in 0 .. 1 of light intensities (IEC 61966-2-1)."""
    linear = np.clip(linear, 0.0, 1.0)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def luminance(rgb: Array) -> Array:
    """Return the luminance of linear colours `[..., 3]` (ITU-R BT.709)."""
    return 0.2126 * rgb[..., 0] + 0.7152 * rgb[..., 1] + 0.0722 * rgb[..., 2]


def develop(photo: Array, exposure: float, vignette: float) -> Array:
    """Return `photo` `[h, w, 3] uint8` exposed, tone-mapped and vignetted, as float32 in 0 .. 1.

    The curve is K. Narkowicz's fit of the ACES film curve (2016).
    """
    height, width, _ = photo.shape
    light = exposure * to_linear(photo / np.float32(255.0))
    down = (np.arange(height, dtype=np.float32)[:, None, None] - height / 2) / height
    across = (np.arange(width, dtype=np.float32)[None, :, None] - width / 2) / width
    light = light * np.exp(-vignette * (down * down + across * across))
    film = light * (2.51 * light + 0.03) / (light * (2.43 * light + 0.59) + 0.14)
    return to_srgb(film)


def sharpen(image: Array, amount: float) -> Array:
    """Return the inside of `image` `[h, w, 3]` pushed away from its 5 x 5 binomial blur: `[h-4, w-4, 3]`."""
    rows = (image[:-4] + image[4:] + 4.0 * (image[1:-3] + image[3:-1]) + 6.0 * image[2:-2]) / 16.0
    blur = (rows[:, :-4] + rows[:, 4:] + 4.0 * (rows[:, 1:-3] + rows[:, 3:-1]) + 6.0 * rows[:, 2:-2]) / 16.0
    centre = image[2:-2, 2:-2]
    return np.minimum(np.maximum(centre + amount * (centre - blur), 0.0), 1.0)


def local_contrast(image: Array, compression: float, detail: float) -> Array:
    """Return the inside of `image` `[h, w, 3]` with large contrasts compressed and fine ones raised, [h-4, w-4, 3].

    A bilateral filter of the log luminance gives the base layer (F. Durand and J. Dorsey, SIGGRAPH 2002).
    """
    height, width, _ = image.shape
    tone = np.log(luminance(image) + 0.01)
    centre = tone[2:-2, 2:-2]
    total = 0.0
    weights = 0.0
    for down in range(5):
        for across in range(5):
            near = tone[down : height - 4 + down, across : width - 4 + across]
            apart = near - centre
            weight = np.exp(-0.125 * ((down - 2) ** 2 + (across - 2) ** 2) - 3.0 * apart * apart)
            total = total + weight * near
            weights = weights + weight
    base = total / weights
    change = np.exp((compression - 1.0) * base + (detail - 1.0) * (centre - base))
    return np.clip(image[2:-2, 2:-2] * change[..., None], 0.0, 1.0)
