"""Figures of gradients: agreement, variance, histograms of their sizes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loptrl.meta import statistics
from loptrl.meta.config import EDGES


def test_agreement_of_gradients():
    one = jnp.asarray([[1.0, 0.0], [2.0, 0.0], [5.0, 0.0]])
    assert float(statistics.agreement({"a": one, "b": one})) == pytest.approx(1.0, abs=1e-6)
    apart = jnp.asarray([[1.0, 0.0], [0.0, 3.0]])
    assert float(statistics.agreement({"a": apart})) == pytest.approx(0.0, abs=1e-6)
    opposite = jnp.asarray([[1.0], [-1.0]])
    assert float(statistics.agreement({"a": opposite})) == pytest.approx(-1.0, abs=1e-6)
    for alone in (statistics.agreement, statistics.sign_agreement, statistics.variance):
        assert np.isnan(alone({"a": one[:1]}))


def tree(rows: np.ndarray) -> dict[str, jnp.ndarray]:
    return {"a": jnp.asarray(rows[:, :4]).reshape(-1, 2, 2), "b": jnp.asarray(rows[:, 4:])}


def test_pairs_are_all_compared():
    rows = np.random.default_rng(0).normal(size=(5, 9)).astype(np.float32)
    pairs = [(i, j) for i in range(5) for j in range(i)]
    norms = np.linalg.norm(rows, axis=1)
    cosines = [rows[i] @ rows[j] / norms[i] / norms[j] for i, j in pairs]
    assert float(statistics.agreement(tree(rows))) == pytest.approx(np.mean(cosines), abs=1e-6)
    same = [np.mean(np.sign(rows[i]) == np.sign(rows[j])) for i, j in pairs]
    assert float(statistics.sign_agreement(tree(rows))) == pytest.approx(np.mean(same), abs=1e-6)
    spread = rows.var(axis=0, ddof=1).sum()
    assert float(statistics.variance(tree(rows))) == pytest.approx(spread, rel=1e-5)
    first, second = ({"a": row[:4].reshape(2, 2), "b": row[4:]} for row in rows[:2])
    assert float(statistics.cosine(first, second)) == pytest.approx(cosines[0], abs=1e-6)


def test_a_histogram_of_sizes():
    values = [0.0, 1e-12, -1e-9, 2e-3, -2e-3, 5.0, 100.0, 30.0]
    found = np.asarray(jax.jit(statistics.log_histogram)({"a": jnp.asarray(values)}))
    assert found.sum() == pytest.approx(1.0) and found.shape == (len(EDGES) + 1,)
    by_hand = np.zeros(len(EDGES) + 1)
    for value in values:
        with np.errstate(divide="ignore"):
            by_hand[np.searchsorted(EDGES, np.log10(abs(value)), side="right")] += 1 / 8
    np.testing.assert_allclose(found, by_hand)
    assert found[0] == 2 / 8 and found[-1] == 2 / 8
