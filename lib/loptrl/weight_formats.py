"""What official weight files hold, as plain arrays by path; no file can make anything run.

OPEN: a flat .npy vector. Optim4RL: `param.pickle`, or its conversion to an .npz of plain arrays.
VeLO: flax's msgpack with a `config.gin` beside it.
"""

from __future__ import annotations

import ast
import io
import re
from pathlib import Path
from typing import Any

import numpy as np

from loptrl.errors import WeightsError
from loptrl.plain_arrays import Arrays, flat, plain_array, read_bytes, reading
from loptrl.plain_pickle import read_pickle

__all__ = ["ZIP", "official", "read_gin", "read_msgpack", "read_npy", "read_npz", "velo_shapes"]

ZIP = b"PK"
"""How a zip file, and so an .npz, begins."""


def official(family: str, data: bytes, source: Path) -> tuple[Arrays, dict[str, Any]]:
    """The arrays of an official file, and the options of `build` that belong to them.

    Args:
        family: "open", "optim4rl" or "velo".
        data: the file's bytes.
        source: where they are from; VeLO's config.gin is read beside it.

    Raises:
        WeightsError: the file is not what the family's files are.
    """
    where = str(source)
    if family == "velo":
        return _velo(data, source)
    if family == "open":
        return {"vector": read_npy(data, where)}, {}
    arrays = read_npz(data, where) if data.startswith(ZIP) else read_pickle(data, where)
    return {name.removeprefix("params/"): value for name, value in arrays.items()}, {}


def read_npy(data: bytes, where: str) -> np.ndarray:
    """The one flat vector of an .npy.

    Raises:
        WeightsError: it holds something else, such as a pickle.
    """
    with reading("plain numbers", where, "a pickle is never opened"):
        vector = np.load(io.BytesIO(data), allow_pickle=False)
    if not isinstance(vector, np.ndarray) or vector.ndim != 1:
        raise WeightsError(f"expected one flat vector in {where}; it holds something else")
    return vector


def read_npz(data: bytes, where: str) -> Arrays:
    """The named arrays of an .npz.

    Raises:
        WeightsError: it holds something else, such as a pickle.
    """
    with reading("plain arrays", where, "a pickle is never opened"):
        file = np.load(io.BytesIO(data), allow_pickle=False)
        if isinstance(file, np.ndarray):
            raise WeightsError(f"expected an npz of named arrays in {where}, got one array")
        with file:
            return {name: file[name] for name in file.files}


def read_msgpack(data: bytes, where: str) -> dict[str, Any]:
    """The tree in a file of flax's msgpack; its arrays are numpy's.

    Raises:
        WeightsError: it holds something else than plain values and arrays, or is damaged.
    """
    import msgpack

    def array(code: int, payload: bytes) -> np.ndarray:
        # flax's numbers: 1 is an array, 3 a scalar of numpy.
        if code not in (1, 3):
            raise WeightsError(
                f"expected plain arrays in {where}, it holds an object of kind {code}; "
                "such a file is not opened"
            )
        shape, dtype, raw = msgpack.unpackb(payload, raw=True)
        return plain_array(raw, dtype.decode(), shape)

    with reading("flax's msgpack", where, "get it again"):
        tree = msgpack.unpackb(data, ext_hook=array, raw=False)
        if not isinstance(tree, dict):
            raise ValueError(f"a {type(tree).__name__}")
    return tree


def read_gin(text: str, where: str) -> dict[str, Any]:
    """What a gin configuration binds for HyperV2, read as data: option -> value.

    Raises:
        WeightsError: a bound value is no plain Python value.
    """
    bound = {}
    for line in text.replace("\\\n", " ").splitlines():
        binding = re.fullmatch(r"\s*(?:[\w./]*[./])?HyperV2\.(\w+)\s*=\s*(.*)", line)
        if binding is None:
            continue
        option, value = binding.groups()
        try:
            plain = ast.literal_eval(value)
            bound[option] = tuple(plain) if isinstance(plain, list) else plain
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            raise WeightsError(
                f"expected a plain value for HyperV2.{option} in {where}, got {value!r:.60}"
            ) from error
    return bound


# HyperV2's own defaults, which hold where config.gin says nothing. Other values would be another
# rule, except for the first four.
_HYPER_V2 = {
    "lstm_hidden_size": 128,
    "param_inits": 64,
    "use_bugged_next_lstm_state": False,
    "use_bugged_loss_features": True,
    "ff_hidden_size": 4,
    "ff_hidden_layers": 2,
    "initial_momentum_decays": (0.9, 0.99, 0.999),
    "initial_rms_decays": (0.999,),
    "initial_adafactor_decays": (0.9, 0.99, 0.999),
    "mix_layers": True,
    "exp_mult": 0.001,
    "step_mult": 0.001,
    "with_validation_feature_dim": False,
    "adafactor_accumulator": True,
    "param_scale_mult": True,
    "precondition_output": False,
    "rnn_state_decay": 0.0,
    "constant_loss": False,
    "clip_param_scale_amount": None,
}
_FREE = tuple(_HYPER_V2)[:4]


def _velo(data: bytes, source: Path) -> tuple[Arrays, dict[str, Any]]:
    gin = source.with_name("config.gin")
    if not gin.is_file():
        raise WeightsError(f"expected VeLO's config.gin beside {source}, found none; get both")
    with reading("text", str(gin), "get it again"):
        text = read_bytes(gin).decode("utf-8")
    bound = read_gin(text, str(gin))
    for option, default in _HYPER_V2.items():
        value = bound.get(option, default)
        if option in _FREE:
            fits = type(value) is type(default) and (value is False or value > 0)
            wanted = "true or false" if isinstance(default, bool) else "a positive whole number"
        else:
            fits, wanted = value == default, f"{default!r}, the only one known here"
        if not fits:
            raise WeightsError(f"expected HyperV2.{option} in {gin} as {wanted}, got {value!r:.60}")
    hidden, inits, state_bug, loss_bug = (bound.get(o, _HYPER_V2[o]) for o in _FREE)
    params = read_msgpack(data, str(source)).get("params")
    arrays = {k.replace("/~/", "/"): v for k, v in flat(params, str(source)).items()}
    expected = velo_shapes(hidden, inits)
    for name in sorted({*expected, *arrays}):
        found = arrays[name].shape if name in arrays else None
        if found != expected.get(name):
            raise WeightsError(
                f"expected HyperV2 with lstm_hidden_size={hidden} and param_inits={inits} in "
                f"{source}, got {name!r:.60} of shape {found} in place of {expected.get(name)}"
            )
    return arrays, {"bugged_lstm_state": state_bug, "bugged_loss_features": loss_bug}


def velo_shapes(hidden: int, inits: int) -> dict[str, tuple[int, ...]]:
    """The arrays of VeLO's weights by path, for an LSTM size and a number of MLPs to mix."""
    groups = (1, 1, 1, 3, 1, 3, 1, 3, 1, 3, 3, 3, 3, 3)
    shapes: dict[str, tuple[int, ...]] = {
        **{f"ff_mod_stack/w0__{i}": (inits, n, 4) for i, n in enumerate(groups)},
        **{f"ff_mod_stack/w{i}": (inits, 4, n) for i, n in ((1, 4), (2, 3))},
        **{f"ff_mod_stack/b{i}": (inits, n) for i, n in ((0, 4), (1, 4), (2, 3))},
        **{f"lstm_init_state/{part}": (1, hidden) for part in ("cell", "hidden")},
    }
    linear = dict.fromkeys(("linear", "linear_1", "linear_2"), (30, hidden))
    linear |= {"rnn/linear": (2 * hidden, 4 * hidden)}
    linear |= {"rnn_to_controls": (hidden, inits), "step_size": (hidden, 1)}
    for name, (rows, columns) in linear.items():
        shapes |= {f"rnn_params/{name}/b": (columns,), f"rnn_params/{name}/w": (rows, columns)}
    return shapes
