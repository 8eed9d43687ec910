"""Foreign files of weights: what is read from them, and that nothing in them is ever run."""

from __future__ import annotations

import builtins
import os
import pickle
import pickletools
import subprocess
import sys

import jax
import jax.numpy as jnp
import msgpack
import numpy as np
import pytest
from flax import serialization
from flax.core import FrozenDict

from loptrl import plain_arrays, weight_formats
from loptrl.errors import WeightsError
from loptrl.optimizers import velo
from loptrl.plain_pickle import read_pickle

KERNEL = np.arange(6, dtype=np.float32).reshape(2, 3)
BIAS = np.linspace(-1, 1, 3)


def flat(tree) -> dict[str, np.ndarray]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {"/".join(k.key for k in path): np.asarray(leaf) for path, leaf in leaves}


class Calls:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class Builds(Calls):
    """Pickles as a call whose outcome is given a state."""

    def __reduce__(self):
        return (*self.call, {"__call__": 1})


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("make", [np.asarray, jnp.asarray, np.asfortranarray, np.array])
@pytest.mark.parametrize("wrap", [dict, FrozenDict])
def test_a_pickle_of_arrays(protocol, make, wrap):
    with jax.enable_x64(True):
        tree = wrap({"params": {"mlp": {"kernel": make(KERNEL), "bias": make(BIAS)}}})
        data = pickle.dumps(tree, protocol)
    found = read_pickle(data, "x")
    assert set(found) == {"params/mlp/kernel", "params/mlp/bias"}
    np.testing.assert_array_equal(found["params/mlp/kernel"], KERNEL)
    np.testing.assert_array_equal(found["params/mlp/bias"], BIAS)
    assert found["params/mlp/kernel"].dtype == np.float32
    assert found["params/mlp/bias"].dtype == np.float64


def test_numbers_of_the_other_byte_order():
    found = read_pickle(pickle.dumps({"a": KERNEL.astype(">f4")}), "x")
    np.testing.assert_array_equal(found["a"], KERNEL)
    assert plain_arrays.numbers_sha256(found) == plain_arrays.numbers_sha256({"a": KERNEL})


def test_a_pickle_needs_no_jax(library_path, tmp_path):
    path = tmp_path / "param.pickle"
    path.write_bytes(pickle.dumps(FrozenDict({"a": jnp.asarray(KERNEL)})))
    code = (
        "import sys, pathlib\n"
        "from loptrl.plain_pickle import read_pickle\n"
        f"assert read_pickle(pathlib.Path({str(path)!r}).read_bytes(), 'x')['a'].sum() == 15\n"
        "assert not {'jax', 'flax'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def circular() -> dict:
    tree: dict = {}
    tree["again"] = tree
    return tree


def shared(depth: int = 40) -> dict:
    tree: dict = {"a": {}}
    for _ in range(depth):
        tree = {"a": tree, "b": tree}
    return tree


ARRAY = pickle.dumps({"a": KERNEL})
HUGE_MEMO = b"\x80\x04}r\xff\xff\xff\x7f."
BAD = {
    "a command": (Calls(os.system, "touch gone"), "'posix.system'"),
    "a command in a tree": ({"a": {"b": Calls(os.system, "touch gone")}}, "'posix.system'"),
    "eval": (Calls(eval, "open('gone', 'w')"), "'builtins.eval'"),
    "getattr": (Calls(getattr, "text", "upper"), "'builtins.getattr'"),
    "a nested pickle": (Calls(pickle.loads, ARRAY), "'_pickle.loads'"),
    "a pickle as bytes": ({"a": ARRAY}, "got a bytes at 'a'"),
    "a class": ({"a": builtins.object}, "'builtins.object'"),
    "another name of numpy": (Calls(np.load, "gone"), "'numpy.load'"),
    "objects": ({"a": np.array([{}, []], dtype=object)}, "the type |O8"),
    "a record": ({"a": np.zeros(2, [("x", "f4")])}, "the type |V4"),
    "texts": ({"a": np.array(["x"])}, "the type <U1"),
    "a list": ({"a": [KERNEL]}, "got a list at 'a'"),
    "a number": ({"a": 1.5}, "got a float at 'a'"),
    "numbers for names": ({1: KERNEL}, "got a dict at ''"),
    "one array": (KERNEL, "got a ndarray at ''"),
    "a call of an array's class": (Calls(np.ndarray, (3,)), "a call of ndarray"),
    "a changed class": (Builds(np.dtype, "f4"), "got"),
    "a circle": (circular(), "more"),
    "shared dictionaries": (shared(), "more"),
    "a set": ({"a": {1, 2}}, "uses EMPTY_SET"),
    "an instance": ({"a": pickletools.OpcodeInfo}, "'pickletools.OpcodeInfo'"),
    "a huge index": (HUGE_MEMO, "the memo index 2147483647"),
    "a cut": (ARRAY[:-20], "expected a pickle of plain arrays in x, got"),
    "a cut array": (ARRAY.replace(KERNEL.tobytes(), KERNEL.tobytes()[:-1] + b""), "got"),
    "something after it": (ARRAY + b"x", "1 bytes after its end"),
    "two": (ARRAY + ARRAY, "after its end"),
    "nothing": (b"", "got"),
    "text": (b"hello", "got"),
    "too much": (b"\x80" * (2**20 + 1), "at most 1048576 bytes"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_pickle_that_is_refused(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content, message = BAD[case]
    data = content if isinstance(content, bytes) else pickle.dumps(content)
    with pytest.raises(WeightsError) as error:
        read_pickle(data, "x")
    said = str(error.value)
    assert message in said and " in x" in said and "\n" not in said
    assert list(tmp_path.iterdir()) == []


def test_a_refused_pickle_changes_nothing_for_the_next():
    change = b"\x80\x04\x8c\x05numpy\x8c\x05dtype\x93N}\x8c\x08__call__K\x01s\x86b."
    with pytest.raises(WeightsError, match="a change of dtype"):
        read_pickle(change, "x")
    np.testing.assert_array_equal(read_pickle(ARRAY, "x")["a"], KERNEL)


def test_flax_msgpack():
    tree = {"params": {"a": jnp.asarray(KERNEL)}, "gen_id": "x", "step": np.int32(3), "n": 7}
    found = weight_formats.read_msgpack(serialization.to_bytes(tree), "x")
    np.testing.assert_array_equal(found["params"]["a"], KERNEL)
    assert (found["gen_id"], found["step"], found["n"]) == ("x", 3, 7)


def array_of(dtype: bytes, shape=(2,), raw=b"12345678") -> msgpack.ExtType:
    return msgpack.ExtType(1, msgpack.packb((shape, dtype, raw)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (msgpack.packb({"a": msgpack.ExtType(2, b"x")}), "an object of kind 2"),
        (msgpack.packb({"a": msgpack.ExtType(99, b"x")}), "an object of kind 99"),
        (msgpack.packb({"a": array_of(b"object")}), "the type object"),
        (msgpack.packb({"a": array_of(b"f4,f4")}), "the type f4,f4"),
        (msgpack.packb({"a": array_of(b"float32", (3,))}), "reshape"),
        (msgpack.packb({"a": array_of(b"float32", (10**12,))}), "reshape"),
        (msgpack.packb({"a": array_of(b"float32", 2)}), "not iterable"),
        (msgpack.packb([1, 2]), "got a list"),
        (msgpack.packb({"a": 1})[:-1], "got"),
        (msgpack.packb({"a": 1}) + b"x", "got"),
        (msgpack.packb({1: 1}), "got"),
        (b"", "got"),
        (ARRAY, "got"),
    ],
)
def test_a_msgpack_that_is_refused(data, message):
    with pytest.raises(WeightsError, match="in x") as error:
        weight_formats.read_msgpack(data, "x")
    assert message in str(error.value)


OFFICIAL_GIN = """
# Parameters for HyperV2:
# ==============================================================================
HyperV2.exp_mult = 0.001
learned_optimization.research.general_lopt.hyper_v2.HyperV2.lstm_hidden_size = 6
HyperV2.initial_momentum_decays = \\
    (0.9, 0.99, 0.999)
scope/HyperV2.param_inits = 4
HyperV2.use_bugged_loss_features = False
HyperV2.summarize_each_layer = True
run_train.lopt = @HyperV2()
MyHyperV2.param_inits = 77
"""


def test_gin_is_read_as_data():
    assert weight_formats.read_gin(OFFICIAL_GIN, "x") == {
        "exp_mult": 0.001,
        "lstm_hidden_size": 6,
        "initial_momentum_decays": (0.9, 0.99, 0.999),
        "param_inits": 4,
        "use_bugged_loss_features": False,
        "summarize_each_layer": True,
    }


@pytest.mark.parametrize("value", ["@other()", "%MACRO", "__import__('os')", "(1, 2", ""])
def test_gin_that_is_no_data(value):
    with pytest.raises(WeightsError, match=r"plain value for HyperV2\.param_inits in x, got"):
        weight_formats.read_gin(f"HyperV2.param_inits = {value}", "x")


@pytest.mark.parametrize(("hidden", "inits"), [(6, 4), (512, 256)])
def test_the_arrays_of_velo(hidden, inits):
    tree = jax.eval_shape(
        lambda: velo.init_theta(jax.random.key(0), lstm_hidden_size=hidden, param_inits=inits)
    )
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    shapes = {"/".join(k.key for k in path): leaf.shape for path, leaf in leaves}
    assert weight_formats.velo_shapes(hidden, inits) == shapes


def released(theta, **changes) -> bytes:
    """A file as `ParameterCheckpoint` was written: haiku's parameters, by module."""
    rnn = dict(theta["rnn_params"])
    rnn["rnn/linear"] = rnn.pop("rnn")["linear"]
    params = {**theta, "rnn_params": rnn, "ff_mod_stack": {"~": theta["ff_mod_stack"]}, **changes}
    return serialization.to_bytes({"params": params, "gen_id": "abc", "step": 200_000})


@pytest.fixture
def velo_file(tmp_path):
    path = tmp_path / "params"
    path.with_name("config.gin").write_text(OFFICIAL_GIN)
    return path


THETA = velo.init_theta(jax.random.key(1), lstm_hidden_size=6, param_inits=4)


def test_velo_s_released_file(velo_file):
    arrays, options = weight_formats.official("velo", released(THETA), velo_file)
    assert options == {"bugged_lstm_state": False, "bugged_loss_features": False}
    expected = flat(THETA)
    assert set(arrays) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(arrays[name], value)


def test_hyperv2_s_own_defaults_hold_where_gin_says_nothing(velo_file):
    gin = "HyperV2.lstm_hidden_size = 6\nHyperV2.param_inits = 4\n"
    velo_file.with_name("config.gin").write_text(gin)
    _, options = weight_formats.official("velo", released(THETA), velo_file)
    assert options == {"bugged_lstm_state": False, "bugged_loss_features": True}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("lstm_hidden_size = 6", "lstm_hidden_size = 8", "lstm_hidden_size=8 .* got 'lstm_init"),
        ("lstm_hidden_size = 6", "lstm_hidden_size = 0", "a positive whole number, got 0"),
        ("lstm_hidden_size = 6", "lstm_hidden_size = True", "a positive whole number, got True"),
        ("param_inits = 4", "param_inits = 4.0", r"a positive whole number, got 4\.0"),
        ("features = False", "features = 0", "true or false, got 0"),
        ("exp_mult = 0.001", "exp_mult = 0.01", r"exp_mult .* the only one known here, got 0\.01"),
    ],
)
def test_a_gin_that_is_another_rule(velo_file, old, new, message):
    gin = velo_file.with_name("config.gin")
    text = gin.read_text()
    assert old in text
    gin.write_text(text.replace(old, new, 1))
    with pytest.raises(WeightsError, match=message):
        weight_formats.official("velo", released(THETA), velo_file)


def test_velo_with_other_arrays(velo_file):
    for changes, message in (
        ({"lstm_init_state": {}}, "'lstm_init_state/cell' of shape None"),
        ({"more": {"a": KERNEL}}, "'more/a' of shape"),
        ({"more": "text"}, "got a str at 'more'"),
    ):
        with pytest.raises(WeightsError, match=message):
            weight_formats.official("velo", released(THETA, **changes), velo_file)
    with pytest.raises(WeightsError, match="got a NoneType at ''"):
        weight_formats.official("velo", serialization.to_bytes({"a": KERNEL}), velo_file)
    velo_file.with_name("config.gin").unlink()
    with pytest.raises(WeightsError, match=r"expected VeLO's config\.gin beside"):
        weight_formats.official("velo", released(THETA), velo_file)


def test_the_digest_of_numbers_is_of_names_types_shapes_and_numbers():
    one = plain_arrays.numbers_sha256({"a": KERNEL, "b": BIAS})
    assert one == plain_arrays.numbers_sha256({"b": BIAS, "a": np.asfortranarray(KERNEL)})
    others = [
        {"a": KERNEL, "c": BIAS},
        {"a": KERNEL + 1, "b": BIAS},
        {"a": KERNEL.T, "b": BIAS},
        {"a": KERNEL.astype(np.float64), "b": BIAS},
        {"a": KERNEL},
    ]
    assert one not in {plain_arrays.numbers_sha256(other) for other in others}
