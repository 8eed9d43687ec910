"""The outer optimizer of meta-training by gradients: both bounds on the meta-gradient, and L2."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from loptrl import cli
from loptrl.errors import LoptrlError
from loptrl.meta.config import MetaConfig
from loptrl.meta.program import outer_optimizer
from loptrl.studies import meta_training

THETA = {"w": jnp.array([2.0, -3.0])}
FREE = {"meta_grad_norm": None, "meta_grad_clip": None, "meta_learning_rate": 1e-3}


def steps(gradients, **settings):
    """The updates for one meta-gradient after another; Adam alone would hide a common factor."""
    outer = outer_optimizer(MetaConfig(**{**FREE, **settings}))
    state, made = outer.init(THETA), []
    for gradient in gradients:
        update, state = outer.update({"w": jnp.array(gradient)}, state, THETA)
        made.append(np.asarray(update["w"]))
    return np.stack(made)


@pytest.mark.parametrize(
    ("bound", "large", "bounded"),
    [
        ({"meta_grad_norm": 0.5}, [3.0, 4.0], [0.3, 0.4]),
        ({"meta_grad_clip": 1.0}, [10.0, -0.5], [1.0, -0.5]),
    ],
)
def test_a_bound_shortens_what_is_beyond_it_and_nothing_else(bound, large, bounded):
    small = [0.1, -0.2]
    np.testing.assert_allclose(steps([large, small], **bound), steps([bounded, small]), rtol=1e-5)
    assert not np.allclose(steps([large, small])[1], steps([bounded, small])[1], rtol=1e-2)
    np.testing.assert_array_equal(steps([small], **bound), steps([small]))


def test_l2_on_theta_pulls_it_to_0():
    still = steps([[0.0, 0.0]])
    np.testing.assert_array_equal(still, 0.0)
    np.testing.assert_allclose(steps([[0.0, 0.0]], meta_l2=0.1), [[-1e-3, 1e-3]], rtol=1e-4)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--meta-grad-norm", "much"], "--meta-grad-norm expects a number or none, got 'much'"),
        (["--meta-grad-clip", "-1"], "meta_grad_clip must be a number"),
        (["--reset-interval", "1.5"], "--reset-interval expects a whole number or none"),
    ],
)
def test_bounds_on_the_command_line(given, words, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("LOPTRL_DATA", str(tmp_path / "data"))
    with pytest.raises(SystemExit):
        cli.main(["meta", "optim4rl", "--name", "mine", "--task", "probe_reach", *given])
    assert words in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_agents_at_once_reach_the_pipeline_and_no_configuration(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("LOPTRL_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LOPTRL_CACHE", str(tmp_path / "cache"))

    def made(spec, finished, *, together):
        raise LoptrlError(f"{together} together, {'together' in spec.config}")

    monkeypatch.setattr(meta_training, "make_meta_program", made)
    line = ["meta", "optim4rl", "--name", "mine", "--task", "probe_reach"]
    for given, words in (([], "None together, False"), (["--agents-at-once", "2"], "2 together")):
        with pytest.raises(SystemExit):
            cli.main([*line, *given])
        assert words in capsys.readouterr().err
