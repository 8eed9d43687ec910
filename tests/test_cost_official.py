"""What page 07 says of the official program, from sessions made up here."""

from __future__ import annotations

from loptrl.studies.cost_official import on_official

MADE = "a day, 2 cores"
HEAD = f"# {MADE}\nwhat,env_steps_per_s,devices,peak_memory_gib,packages\n"


def test_nothing_is_said_of_what_was_not_measured(tmp_path):
    assert on_official(tmp_path) == "The authors' own program was not measured here."
    (tmp_path / "a.csv").write_text(HEAD + "meta:small,8000,1,1.5,\nmeta,16000,2,3,\n")
    assert on_official(tmp_path) == "The authors' own program was not measured here."


def test_the_ratio_is_of_rounds_and_the_memory_the_largest(tmp_path):
    theirs = "jax 1 and brax 2"
    rows = ["meta:small,8000,1,1.5,", f"optim4rl:meta,1000,1,5.5,{theirs}"]
    rows += ["meta:small,3000,1,1.7,", f"optim4rl:meta,500,1,5.2,{theirs}"]
    (tmp_path / "a.csv").write_text(HEAD + "\n".join(rows))
    said = on_official(tmp_path)
    assert said.startswith("The authors' own program (on jax 1 and brax 2), with one agent")
    assert "made 750 env steps/s, and its process took 5.5 GiB" in said
    assert "made 7.0 [6.0 to 8.0] times as many env steps/s, with 1.7 GiB" in said
    assert f"Measured on {MADE}, 2 rounds;" in said
    (tmp_path / "b.csv").write_text(HEAD + "\n".join(rows[:2]))
    assert "made 8.0 times as many env steps/s, with 1.5 GiB" in on_official(tmp_path)
