"""Where things are, and that looking does not make folders."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

import loptrl.paths as paths
from loptrl.errors import LoptrlError


def test_repository_is_found_from_the_library(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    root = paths.repo_root()
    assert (root / "lib" / "loptrl" / "paths.py").samefile(paths.__file__)


def test_repository_is_found_from_the_current_folder(monkeypatch, tmp_path):
    fake = tmp_path / "checkout" / "lib" / "loptrl"
    fake.mkdir(parents=True)
    (fake / "paths.py").touch()
    inside = tmp_path / "checkout" / "notebooks" / "deep"
    inside.mkdir(parents=True)
    monkeypatch.setattr(paths, "__file__", str(tmp_path / "site-packages" / "loptrl" / "paths.py"))
    monkeypatch.chdir(inside)
    assert paths.repo_root() == tmp_path / "checkout"


def test_no_repository_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "__file__", str(tmp_path / "a" / "b" / "c" / "paths.py"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LoptrlError, match=r"Expected a checkout of loptrl .* set LOPTRL_DATA"):
        paths.repo_root()


def test_data_folder_can_be_chosen(monkeypatch, tmp_path):
    monkeypatch.delenv("LOPTRL_DATA", raising=False)
    assert paths.results_dir() == paths.repo_root() / "data" / "results"
    monkeypatch.setenv("LOPTRL_DATA", str(tmp_path / "elsewhere"))
    assert paths.results_dir() == tmp_path / "elsewhere" / "results"
    assert paths.weights_dir() == tmp_path / "elsewhere" / "weights"
    assert paths.reference_dir() == tmp_path / "elsewhere" / "reference"
    assert not (tmp_path / "elsewhere").exists()


def test_cache_folder_in_order_of_choice(monkeypatch, tmp_path):
    monkeypatch.setenv("LOPTRL_CACHE", str(tmp_path / "mine"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert paths.cache_dir() == tmp_path / "mine"
    monkeypatch.delenv("LOPTRL_CACHE")
    assert paths.cache_dir() == tmp_path / "xdg" / "loptrl"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/ignored")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert paths.cache_dir() == tmp_path / "home" / ".cache" / "loptrl"
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["LOPTRL_DATA", "LOPTRL_CACHE", "LOPTRL_WEIGHTS"])
def test_a_file_in_place_of_a_folder(monkeypatch, tmp_path, name):
    wrong = tmp_path / "file"
    wrong.touch()
    monkeypatch.setenv(name, str(wrong))
    with pytest.raises(LoptrlError, match=f"Expected {name} to name a folder"):
        paths.results_dir(), paths.cache_dir(), paths.official_dir()


def test_a_folder_of_official_weights_is_there_if_it_is_named(monkeypatch, tmp_path):
    monkeypatch.delenv("LOPTRL_WEIGHTS", raising=False)
    assert paths.official_dir() is None
    monkeypatch.setenv("LOPTRL_WEIGHTS", str(tmp_path))
    assert paths.official_dir() == tmp_path


def test_a_relative_choice_is_made_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOPTRL_DATA", "here")
    assert paths.data_dir() == Path(tmp_path) / "here"


def test_tests_have_no_network():
    with socket.socket() as outside, pytest.raises(OSError, match="no network"):
        outside.connect(("192.0.2.1", 80))
    with pytest.raises(OSError, match="no network"):
        socket.getaddrinfo("example.org", 80)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as inside:
        inside.connect(server.getsockname())
