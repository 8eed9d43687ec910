"""Weights: a registry, a checked import, and a format without pickle."""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import http.server
import io
import json
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from faults import FaultyOs
from loptrl import files, paths, plain_arrays, weights
from loptrl.errors import StoreError
from loptrl.weights import REGISTRY, WeightsError

SHARED = Path(__file__).resolve().parents[2] / "shared" / "weights"
ARRAYS = {"mlp/bias": np.ones(3, np.float32), "mlp/kernel": np.zeros((2, 3), np.float32)}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LOPTRL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LOPTRL_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("LOPTRL_WEIGHTS", raising=False)
    (tmp_path / "data").mkdir()
    return tmp_path / "cache"


def npy(array, **options) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def published(monkeypatch, name: str, **changes: object) -> str:
    """The registry with an entry changed; returns the official file's place."""
    entry = dataclasses.replace(REGISTRY[name], **changes)
    monkeypatch.setitem(REGISTRY, name, entry)
    return entry.file


def content_of_ant(monkeypatch, content: bytes, *, checked=True) -> str:
    """`open/ant` as if the authors had published this content."""
    digest = hashlib.sha256(content).hexdigest() if checked else "0" * 64
    return published(monkeypatch, "open/ant", sha256=digest, numbers_sha256=None)


def folder_of(root: Path) -> list[str]:
    """The files below a folder."""
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())


def test_what_is_saved_is_read_back(tmp_path):
    path = tmp_path / "mine.npz"
    weights.save(path, ARRAYS, {"family": "open", "trained_on": "nothing"})
    found = weights.read(path)
    assert found.card["trained_on"] == "nothing"
    assert found.card["values"] == 9
    for name, value in ARRAYS.items():
        np.testing.assert_array_equal(found.arrays[name], value)
    assert weights.load(path, family="open").card == found.card
    with pytest.raises(WeightsError, match="expected weights for velo"):
        weights.load(path, family="velo")


def test_our_own_are_found_by_name(cache):
    weights.save(weights.weights_dir() / "open" / "mine.npz", ARRAYS, {"family": "open"})
    assert weights.load("mine", family="open").card["family"] == "open"
    with pytest.raises(WeightsError, match="no weights 'open/other' are here"):
        weights.load("other", family="open")


@pytest.mark.parametrize(
    ("arrays", "card", "message"),
    [
        ({}, {"family": "open"}, "got none"),
        ({"a": np.array([np.nan])}, {"family": "open"}, "NaN"),
        ({"a": np.array([1])}, {"family": "open"}, "expected floats"),
        ({"a": np.array([1.0])}, {}, "name a family"),
        ({"a": np.array([1.0])}, {"family": "open", "x": {1, 2}}, "JSON"),
    ],
)
def test_what_may_not_be_saved(tmp_path, arrays, card, message):
    with pytest.raises(WeightsError, match=message):
        weights.save(tmp_path / "w.npz", arrays, card)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_noticed(tmp_path):
    path = tmp_path / "w.npz"
    weights.save(path, ARRAYS, {"family": "open"})
    data = bytearray(path.read_bytes())
    data[60] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="sha256"):
        weights.read(path)
    path.with_suffix(".json").write_text("{")
    with pytest.raises(WeightsError, match="JSON"):
        weights.read(path)
    path.with_suffix(".json").unlink()
    with pytest.raises(WeightsError, match="could not read"):
        weights.read(path)


def test_an_official_vector_is_imported(cache, tmp_path, monkeypatch):
    vector = np.linspace(-1, 1, 1211, dtype=np.float32)
    file = content_of_ant(monkeypatch, npy(vector))
    (tmp_path / file).write_bytes(npy(vector))
    assert weights.import_folder(tmp_path) == ["open/ant"]
    found = weights.load("ant", family="open")
    np.testing.assert_array_equal(found.arrays["vector"], vector)
    assert found.card["licence"] == "Apache-2.0"
    assert found.card["address"].startswith("https://")


@pytest.mark.parametrize(
    ("content", "checked", "message"),
    [
        (npy(np.zeros(1211, np.float32)), False, "sha256"),
        (npy(np.zeros(1210, np.float32)), True, "expected 1211 numbers"),
        (npy(np.full(1211, np.nan, np.float32)), True, "NaN"),
        (npy(np.array([{}], dtype=object), allow_pickle=True), True, "a pickle is never opened"),
        (pickle.dumps({"a": 1}), True, "a pickle is never opened"),
        (npy(np.zeros((1211, 1), np.float32)), True, "one flat vector"),
        (npy(np.zeros(1211, np.int32)), True, "expected floats"),
        (b"", True, "a pickle is never opened"),
        (npy(np.zeros(1211, np.float32))[:-5], True, "expected plain numbers"),
    ],
    ids=["checksum", "length", "nan", "pickle in npy", "pickle", "shape", "ints", "empty", "cut"],
)
def test_a_wrong_official_file_is_refused(cache, tmp_path, monkeypatch, content, checked, message):
    file = content_of_ant(monkeypatch, content, checked=checked)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        weights.import_file("open/ant", tmp_path / file)
    assert not (cache / "weights").exists()


def optim4rl_tree() -> dict:
    """A pickle's tree like Optim4RL's, of 514 numbers."""
    numbers = np.linspace(-1, 1, 514, dtype=np.float32)
    return {"params": {"rnn1": {"kernel": numbers[:64].reshape(8, 8)}, "mlp1": numbers[64:]}}


def published_optim4rl(monkeypatch) -> tuple[str, bytes]:
    """`optim4rl/ant` as if `optim4rl_tree` had been published: its file's place and content."""
    tree = optim4rl_tree()["params"]
    arrays = {"rnn1/kernel": tree["rnn1"]["kernel"], "mlp1": tree["mlp1"]}
    numbers = plain_arrays.numbers_sha256(arrays)
    file = published(monkeypatch, "optim4rl/ant", numbers_sha256=numbers, converted_sha256=None)
    return file, pickle.dumps(optim4rl_tree())


def test_a_pickle_and_its_conversion_are_the_same_weights(cache, tmp_path, monkeypatch):
    file, content = published_optim4rl(monkeypatch)
    (tmp_path / "p").mkdir()
    pickled, converted = tmp_path / "p" / "param.pickle", tmp_path / "p" / "meta_rl_ant_5.npz"
    pickled.write_bytes(content)
    weights.import_file("optim4rl/ant", pickled)
    first = weights.load("ant", family="optim4rl")
    assert set(first.arrays) == {"rnn1/kernel", "mlp1"}
    np.savez(converted, **{f"params/{name}": value for name, value in first.arrays.items()})
    assert weights.import_folder(tmp_path / "p") == ["optim4rl/ant"]
    assert (
        weights.load("ant", family="optim4rl").card["source_sha256"]
        != (first.card["source_sha256"])
    )
    assert weights.digest("ant", "optim4rl") == first.card["numbers_sha256"]
    # As it lies in a checkout of the authors' repository.
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_bytes(content)
    assert weights.import_folder(tmp_path) == ["optim4rl/ant"]


def test_other_numbers_than_the_published_ones_are_refused(cache, tmp_path, monkeypatch):
    published_optim4rl(monkeypatch)
    tree = optim4rl_tree()
    tree["params"]["mlp1"][7] += 1
    path = tmp_path / "param.pickle"
    path.write_bytes(pickle.dumps(tree))
    with pytest.raises(WeightsError, match="expected the published numbers of optim4rl/ant"):
        weights.import_file("optim4rl/ant", path)
    with pytest.raises(WeightsError, match="sha256"):
        weights.import_file("open/ant", path)
    conversion = tmp_path / "meta_rl_ant_5.npz"
    np.savez(conversion, a=np.zeros(514, np.float32))
    published(monkeypatch, "optim4rl/ant", converted_sha256="0" * 64)
    with pytest.raises(WeightsError, match=r"expected the sha256 0000.* got .* get it again"):
        weights.import_file("optim4rl/ant", conversion)
    assert not (cache / "weights").exists()


def test_velo_is_imported_with_its_flags(cache, tmp_path, monkeypatch):
    import jax
    from flax import serialization

    from loptrl.optimizers import velo

    theta = velo.init_theta(jax.random.key(0), lstm_hidden_size=6, param_inits=4)
    values = sum(leaf.size for leaf in jax.tree.leaves(theta))
    published(monkeypatch, "velo/released", values=values)
    (tmp_path / "velo").mkdir()
    (tmp_path / "velo" / "params").write_bytes(serialization.to_bytes({"params": theta}))
    gin = "HyperV2.lstm_hidden_size = 6\nHyperV2.param_inits = 4\n"
    (tmp_path / "velo" / "config.gin").write_text(gin + "HyperV2.use_bugged_loss_features = True\n")
    assert weights.fetch(["velo/released"], tmp_path) == ["velo/released"]
    flags = {"bugged_lstm_state": False, "bugged_loss_features": True}
    assert weights.card("velo/released")["options"] == flags
    jax.tree.map(np.testing.assert_array_equal, velo.theta(), theta)

    given = {}
    spy = dataclasses.replace(velo, build=lambda theta, **options: given.update(options))
    spy(num_steps=10)
    assert given == {"num_steps": 10, **flags}
    spy(num_steps=10, bugged_loss_features=False)
    assert given == {"num_steps": 10, **flags, "bugged_loss_features": False}
    params = {"w": np.ones((2, 3), np.float32)}
    velo(num_steps=10).init(params)


@pytest.mark.parametrize("function", ["write", "replace"])
def test_both_files_or_neither(tmp_path, monkeypatch, function):
    path = tmp_path / "w.npz"
    monkeypatch.setattr(files, "os", FaultyOs(function, first=2))
    with pytest.raises(StoreError, match="No space left on device"):
        weights.save(path, ARRAYS, {"family": "open"})
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    weights.save(path, ARRAYS, {"family": "open"})
    before = weights.read(path).card
    monkeypatch.setattr(files, "os", FaultyOs(function, first=2))
    with pytest.raises(StoreError):
        weights.save(path, {"a": np.ones(1)}, {"family": "open"})
    assert weights.read(path).card == before
    assert len(list(tmp_path.iterdir())) == 2


def test_files_that_are_being_replaced_are_read_again(tmp_path, monkeypatch):
    """Between the card and the numbers of a new version there is a moment."""
    path, newer = tmp_path / "w.npz", {"a": np.ones(1)}
    weights.save(path, ARRAYS, {"family": "open"})
    old = path.read_bytes()
    weights.save(path, newer, {"family": "open"})
    new = path.read_bytes()
    path.write_bytes(old)
    monkeypatch.setattr(weights.time, "sleep", lambda seconds: path.write_bytes(new))
    assert weights.read(path).arrays == newer
    path.write_bytes(old)
    monkeypatch.setattr(weights.time, "sleep", lambda seconds: None)
    with pytest.raises(weights.WeightsError, match="expected the sha256"):
        weights.read(path)


def test_a_digest_is_that_of_what_would_be_loaded(cache, tmp_path, monkeypatch):
    name, entry = "open/ant", REGISTRY["open/ant"]
    # Before anything is here: as it is published.
    assert not weights.available("ant", "open") and weights.place(name) == "not here"
    assert weights.digest("ant", "open") == weights.digest(name) == entry.numbers_sha256
    with pytest.raises(WeightsError, match="no weights 'velo/released' are here; run `loptrl wei"):
        weights.digest("released", "velo")
    with pytest.raises(WeightsError, match="no weights 'open/mine' are here; give the path"):
        weights.digest("mine", "open")
    assert not weights.available("mine", "open")
    # Our own of the same name come first.
    own = weights.weights_dir() / "open" / "ant.npz"
    weights.save(own, ARRAYS, {"family": "open"})
    assert weights.available(name) and weights.place(name) == "ours"
    assert weights.digest("ant", "open") == plain_arrays.numbers_sha256(ARRAYS)
    assert weights.digest(own) == plain_arrays.numbers_sha256(ARRAYS)
    with pytest.raises(WeightsError, match="expected weights for velo"):
        weights.digest(own, "velo")
    assert not weights.available(tmp_path / "no.npz")
    with pytest.raises(WeightsError, match="there is no such file"):
        weights.digest(tmp_path / "no.npz")


def test_a_digest_needs_no_jax(library_path):
    code = (
        "import sys\nfrom loptrl import weights\n"
        "assert len(weights.digest('multi', 'open')) == 64\n"
        "assert not {'jax', 'flax', 'pooch', 'msgpack'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_all_names_and_where_they_are(cache, monkeypatch):
    vector = np.linspace(-1, 1, 1211, dtype=np.float32)
    file = content_of_ant(monkeypatch, npy(vector))
    cache.mkdir()
    (cache / file).write_bytes(npy(vector))
    weights.import_file("open/ant", cache / file)
    weights.save(weights.weights_dir() / "optim4rl" / "mine.npz", ARRAYS, {"family": "optim4rl"})
    assert weights.names() == [*REGISTRY, "optim4rl/mine"]
    assert weights.place("open/ant") == "imported"
    assert weights.place("optim4rl/mine") == "ours"
    assert weights.card("optim4rl/mine")["size"] > 9 * 4


def test_away_from_a_checkout_there_are_imported_weights_only(cache, tmp_path, monkeypatch):
    monkeypatch.delenv("LOPTRL_DATA")
    monkeypatch.setattr(paths, "__file__", str(tmp_path / "a" / "b" / "c" / "paths.py"))
    monkeypatch.chdir(tmp_path)
    weights.save(cache / "weights" / "open" / "ant.npz", ARRAYS, {"family": "open"})
    assert weights.load("ant", family="open").card["values"] == 9
    assert weights.names() == list(REGISTRY)


class Server(http.server.BaseHTTPRequestHandler):
    """Answers with what `contents` holds, and counts."""

    contents: dict[str, bytes] = {}  # noqa: RUF012
    asked: list[str] = []  # noqa: RUF012

    def do_GET(self):
        self.asked.append(self.path)
        content = self.contents.get(self.path)
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(cache, monkeypatch) -> Iterator[type[Server]]:
    """A server on this machine that publishes `open/ant` and `optim4rl/ant`."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    vector = npy(np.linspace(-1, 1, 1211, dtype=np.float32))
    content_of_ant(monkeypatch, vector)
    _, pickled = published_optim4rl(monkeypatch)
    Server.contents, Server.asked = {"/ant.npy": vector, "/param.pickle": pickled}, []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as httpd:
        root = f"http://127.0.0.1:{httpd.server_port}"
        published(monkeypatch, "open/ant", address=f"{root}/ant.npy")
        published(monkeypatch, "optim4rl/ant", address=f"{root}/param.pickle")
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        yield Server
        httpd.shutdown()
        thread.join()
    gc.collect()


# pooch leaves the connection of a failed download to the garbage collector.
leaves_sockets = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


@leaves_sockets
def test_fetch_downloads_checks_and_keeps(server, cache, capsys):
    names = ["open/ant", "optim4rl/ant"]
    assert weights.fetch(names) == names
    assert server.asked == ["/ant.npy", "/param.pickle"]
    assert weights.load("open/ant").card["values"] == 1211
    assert weights.load("optim4rl/ant").card["values"] == 514
    assert weights.fetch(names) == names
    assert len(server.asked) == 2, "what is in the cache is not downloaded again"
    assert capsys.readouterr() == ("", "")


@leaves_sockets
@pytest.mark.parametrize(
    ("name", "path", "content", "message"),
    [
        ("open/ant", "/ant.npy", b"other", "expected the sha256 .* got d9298a10d1b0.* try again"),
        ("open/ant", "/ant.npy", None, "could not download http.* 404 .* --from DIR or LOPTRL_W"),
        ("optim4rl/ant", "/param.pickle", b"other", "expected a pickle of plain arrays"),
        ("optim4rl/ant", "/param.pickle", pickle.dumps(eval), r"it asks for 'builtins\.eval'"),
    ],
    ids=["checksum", "not there", "damaged", "hostile"],
)
def test_a_wrong_download_leaves_nothing(server, cache, name, path, content, message):
    right = server.contents[path]
    server.contents[path] = content
    with pytest.raises(WeightsError, match=message) as error:
        weights.fetch([name])
    assert "\n" not in str(error.value)
    assert folder_of(cache) == []
    server.contents[path] = right
    assert weights.fetch([name]) == [name]


def test_what_is_not_downloaded(cache, monkeypatch):
    with pytest.raises(WeightsError, match=r"no checksum of velo/released .*weights import velo"):
        weights.fetch(["velo/released"])
    with pytest.raises(WeightsError, match="expected the names of weights"):
        weights.fetch()
    with pytest.raises(WeightsError, match="no published weights 'open/nobody'"):
        weights.fetch(["open/ant", "open/nobody"])
    assert not cache.exists()


def test_a_machine_without_a_network(cache, monkeypatch):
    # The tests have none: looking up a name raises, as it does there.
    with pytest.raises(WeightsError, match=r"could not download https://raw.* with --from DIR"):
        weights.fetch(["open/ant"])
    assert folder_of(cache) == []


def test_a_folder_in_place_of_the_network(cache, tmp_path, monkeypatch):
    vector = npy(np.linspace(-1, 1, 1211, dtype=np.float32))
    file = content_of_ant(monkeypatch, vector)
    folder = tmp_path / "official"
    (folder / "open").mkdir(parents=True)
    (folder / "open" / file).write_bytes(vector)
    assert weights.fetch(["open/ant"], folder) == ["open/ant"]
    monkeypatch.setenv("LOPTRL_WEIGHTS", str(folder))
    assert weights.fetch() == ["open/ant"]
    with pytest.raises(WeightsError, match=r"expected multi_OPEN\.npy in .* for open/multi"):
        weights.fetch(["open/ant", "open/multi"])


@leaves_sockets
def test_a_cache_that_cannot_be_written(server, cache, monkeypatch):
    cache.mkdir()
    (cache / "official").write_text("a file where a folder should be")
    with pytest.raises(StoreError, match=r"Could not write .*LOPTRL_CACHE"):
        weights.fetch(["open/ant"])
    (cache / "official").unlink()
    (cache / "weights").write_text("a file where a folder should be")
    with pytest.raises(StoreError, match=r"Could not write .*LOPTRL_CACHE"):
        weights.fetch(["open/ant"])


def test_the_registry_is_complete():
    assert {"open/multi", "open/ant", "optim4rl/ant"} <= set(REGISTRY)
    for name, entry in REGISTRY.items():
        assert entry.name == name
        assert entry.address.startswith("https://")
        assert entry.address.endswith(entry.file)
        assert entry.trained_on
        assert entry.values in (514, 1211, 3571, 2_320_385)
        assert entry.size >= 4 * entry.values
        digests = [entry.sha256, entry.numbers_sha256, entry.converted_sha256]
        assert all(digest is None or len(digest) == 64 for digest in digests)
        if entry.family == "velo":
            assert not entry.can_be_checked
        else:
            assert entry.numbers_sha256 is not None
            assert len(entry.commit) == 40 and entry.commit in entry.address
        assert (entry.sha256 is not None) == (entry.family == "open")
        assert (entry.converted_sha256 is not None) == (entry.family == "optim4rl")
    json.dumps([dataclasses.asdict(entry) for entry in REGISTRY.values()])


def test_an_unknown_name_and_an_empty_folder(tmp_path):
    with pytest.raises(WeightsError, match="no published weights"):
        weights.import_file("open/nobody", tmp_path / "x.npy")
    with pytest.raises(WeightsError, match="official files"):
        weights.import_folder(tmp_path)


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the authors' weights are not at {SHARED}")
def test_the_authors_files_are_imported(cache):
    from loptrl.optimizers import open_optimizer, optim4rl

    done = weights.import_folder(SHARED)
    assert sorted(done) == sorted(name for name in REGISTRY if name != "velo/released")
    for name in done:
        entry = REGISTRY[name]
        places = [SHARED / entry.family / f for f in (entry.file, entry.converted) if f]
        (path,) = [path for path in places if path.is_file()]
        assert path.stat().st_size == entry.size
        assert weights.load(name).card["numbers_sha256"] == entry.numbers_sha256
    assert open_optimizer.theta("multi")["mlp"]["layers_6"]["kernel"].shape == (32, 3)
    assert open_optimizer.theta("ant")["mlp"]["layers_6"]["kernel"].shape == (16, 3)
    assert optim4rl.theta()["rnn2"]["hn"]["bias"].shape == (8,)
    optim4rl("ant"), open_optimizer("breakout")
