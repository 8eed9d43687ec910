"""The tables of the status page come from the manifests, whatever is or is not stored."""

from __future__ import annotations

import pandas as pd
import pytest

from loptrl import status_page
from loptrl.runs import RunSpec, Store

FACTS = {
    "env_steps": 2_000_000,
    "versions": {"python": "3.12.1", "jax": "0.11.2"},
    "device": "2 x cpu (Some CPU, 2 cores)",
    "wall_time_s": 1800.0,
    "peak_memory_bytes": 2**30,
    "env_steps_per_s": 20_000.0,
    "commit": "0123456789abcdef",
    "created": "2026-11-22T12:00:00+00:00",
    "diverged_at": None,
    "resumed": 0,
}
FRAME = pd.DataFrame({"env_steps": [1_000_000, 2_000_000], "eval_return": [1.0, 2.0]})


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results", tmp_path / "scratch")


def keep(store, arm, seed, **facts):
    spec = RunSpec(study="toy", arm=arm, budget="smoke", version=1, seed=seed, config={"arm": arm})
    return store.write(spec, FRAME, FACTS | facts)


def test_an_empty_store_says_so(store):
    found, damaged = status_page.manifests(store)
    assert found == damaged == []
    assert status_page.overview(found) == "**No runs are stored yet.**"
    assert status_page.as_markdown(status_page.arms_table(found)) == "Nothing yet."
    assert status_page.as_markdown(status_page.software_table(found)) == "Nothing yet."


def test_numbers_are_those_of_the_manifests(store):
    keep(store, "b_arm", 1, wall_time_s=600.0, peak_memory_bytes=3 * 2**30)
    keep(store, "b_arm", 0, created="2026-11-23T09:00:00+00:00", env_steps_per_s=10_000.0)
    keep(store, "a_arm", 0, diverged_at=1_500_000, commit=None)
    found, damaged = status_page.manifests(store)
    assert damaged == []
    assert [(m["arm"], m["seed"]) for m in found] == [("a_arm", 0), ("b_arm", 0), ("b_arm", 1)]

    words = status_page.overview(found)
    assert "3 runs are stored, 6M environment steps" in words
    assert "1.2 hours on 2 x cpu" in words  # 1800 + 1800 + 600 s
    assert "One of them diverged." in words

    table = status_page.arms_table(found).set_index("arm")
    row = table.loc["b_arm"]
    assert (row["seeds"], row["env steps"], row["steps/s"]) == (2, "2M", "15,000")
    assert (row["min/run"], row["GiB"], row["last"]) == ("20.0", "3.00", "2026-11-23")

    software = status_page.software_table(found)
    assert sorted(software["runs"]) == [1, 2]
    assert set(software["commit"]) == {"0123456789ab", "not recorded"}

    text = status_page.as_markdown(status_page.arms_table(found))
    assert text.splitlines()[0].startswith("| study | arm |")
    assert "b\\_arm" in text and len(text.splitlines()) == 4


def test_a_damaged_manifest_is_named_and_not_counted(store):
    kept = keep(store, "a", 0)
    path = store.manifest_path(kept.spec)
    path.write_text(path.read_text().replace("1800.0", "1801.0").replace("1800", "1801"))
    found, damaged = status_page.manifests(store)
    assert found == [] and len(damaged) == 1
    assert path.name in status_page.overview(found, damaged)
