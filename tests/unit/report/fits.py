"""Small fits of three designs, made once for the tests of pictures and documents."""

from __future__ import annotations

from functools import cache

import numpy as np

import multilevel as mlm


@cache
def nested():
    """A random slope and a cross-level interaction with a category."""
    rng = np.random.default_rng(11)
    g = np.repeat(np.arange(18), 7)
    t = np.tile(np.arange(7.0), 18)
    arm = np.array(["a", "b", "c"])[g % 3]
    w = rng.normal(size=18)[g]
    y = 3 + t - 0.1 * t**2 + 0.5 * t * (g % 3) + 0.6 * w * t
    y += rng.normal(0, 1.5, 18)[g] + rng.normal(0, 0.5, 18)[g] * t + rng.normal(size=len(g))
    data = {"y": y, "t": t, "arm": arm, "w": w, "g": g}
    return mlm.fit("y ~ t * arm + t * w + I(t ** 2) + (t | g)", data)


@cache
def three_level():
    rng = np.random.default_rng(12)
    school, room = np.repeat(np.arange(9), 24), np.repeat(np.arange(36), 6)
    x = rng.normal(size=216)
    y = 0.4 * x + rng.normal(size=9)[school] + rng.normal(size=36)[room] + rng.normal(size=216)
    data = {"y": y, "x": x, "school": school, "room": room}
    return mlm.fit("y ~ x + (1 | school/room)", data)


@cache
def crossed():
    rng = np.random.default_rng(13)
    s, i = np.repeat(np.arange(20), 12), np.tile(np.arange(12), 20)
    x, w = rng.normal(size=240), rng.normal(size=20)[s]
    y = 5 + (0.5 + rng.normal(0, 0.7, 20)[s]) * x + 0.4 * x * w
    y += rng.normal(size=20)[s] + rng.normal(0, 0.8, 12)[i] + rng.normal(0, 0.9, 240)
    data = {"rt": y, "x": x, "w": w, "subject": s, "item": i}
    return mlm.fit("rt ~ x * w + (x | subject) + (1 | item)", data)


@cache
def empty():
    rng = np.random.default_rng(14)
    g = np.repeat(np.arange(15), 6)
    return mlm.fit("y ~ 1 + (1 | g)", {"y": rng.normal(size=15)[g] + rng.normal(size=90), "g": g})


FITS = {"nested": nested, "three_level": three_level, "crossed": crossed}
