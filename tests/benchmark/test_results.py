"""The table of a suite, from lines made by hand."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scripts.reproduce import same
from snn_delays.benchmark import results
from snn_delays.benchmark.results import read_results, reproducible_values, table, write_results
from snn_delays.benchmark.suite import Member, Suite, load_suite, overrides
from snn_delays.cli.groups import SUITES, config_folder
from snn_delays.errors import UserError

SUITE = Suite(
    "words",
    "Words",
    {
        "learned": Member("learned delays", [], "95.0 ± 0.2 %"),
        "none": Member("no delays", []),
        "late": Member("not there yet", []),
    },
    seeds=3,
    baseline="learned",
)


def line(member: str, seed: int, accuracy: float, **changes: Any) -> dict[str, Any]:
    return {
        "member": member,
        "seed": seed,
        "accuracy": accuracy,
        "n": 1200,
        "per_speaker_group": {"unseen speakers": {"accuracy": accuracy / 2, "n": 1000}},
        "parameters": 71680,
        "seconds": 90.0,
        "selection": "last epoch, not selected",
        "commit": "abc",
        "data_hash": "d1",
        "versions": {"torch": "2"},
        "machine": {"cpu": "X", "threads": 1, "device": "cpu"},
        "epochs": [],
        "config": {"data": {"fold": 0}},
        **changes,
    }


LINES = [
    *(line("learned", seed, value) for seed, value in enumerate([0.80, 0.82, 0.84])),
    *(line("none", seed, value) for seed, value in enumerate([0.40, 0.41, 0.42])),
]


def test_a_label_stays_in_its_cell() -> None:
    members = {**SUITE.members, "none": Member("no | delays\n| at all", [], "1 | 2")}
    lines = table(replace(SUITE, members=members), LINES, {}).splitlines()
    rows = [line for line in lines if "no \\| delays \\| at all" in line]
    assert [re.sub(r"\\\|", "", row).count("|") for row in rows] == [8, 7, 7]


def test_delay_buffers_have_a_column_if_every_run_knows_its_own() -> None:
    lines = [{**each, "delay_buffer_bytes": 1000 + 3 * each["seed"]} for each in LINES]
    text = table(SUITE, lines, {})
    assert "| delay buffer, bytes | minutes a run |" in text
    assert "| 1,003 | 1.5 | 95.0 ± 0.2 % |" in text
    assert "Delay buffer: " in text
    assert "elay buffer" not in table(SUITE, [*lines[1:], LINES[0]], {})


def test_latencies_have_columns_if_every_run_knows_its_own() -> None:
    lines = [
        {**each, "latency": {"ms": 100.0 + each["seed"], "at_last_input": {"accuracy": 0.25}}}
        for each in LINES
    ]
    text = table(SUITE, lines, {})
    assert "| at the last input | latency, ms |" in text
    assert "| 25.0 ± 0.0 % [25.0, 25.0] | 101 ± 1 |" in text
    assert "Latency: " in text
    assert "atency" not in table(SUITE, [*lines[1:], LINES[0]], {})


def test_rows_pairs_and_how_it_was_made() -> None:
    text = table(SUITE, LINES, {"none, seed 3": "the disk is full."})
    assert "| learned delays | 71,680 | 3 | 82.0 ± 2.0 % [77.0, 87.0] |" in text
    assert (
        "| no delays | 71,680 | 3 | 41.0 ± 1.0 % [38.5, 43.5] | 20.5 ± 0.5 % [19.3, 21.7] |" in text
    )
    assert "all (n = 1,200) | unseen speakers (n = 1,000)" in text
    assert "| 1.5 | 95.0 ± 0.2 % |" in text
    # differences 40, 41, 42: mean 41, sd 1, t(2) = 71.01, p = 0.000198
    assert "| no delays | 3 | +41.0 [+38.5, +43.5] | 41.0 | 0.0002 | 0.0002 |" in text
    assert "Without a result so far: not there yet." in text
    assert "**Failed**: none, seed 3: the disk is full." in text
    assert "commit abc; data d1; X, 1 threads a run, cpu; torch 2" in text
    assert "test-selected" not in text


def test_only_seeds_of_both_are_paired() -> None:
    text = table(SUITE, [*LINES[:2], *LINES[3:]], {})
    assert "| no delays | 2 | +40.5" in text
    assert "minus each other network" not in table(SUITE, [LINES[0], *LINES[3:]], {})


def test_no_accuracy_leaves_its_range_and_two_seeds_have_no_p() -> None:
    high, low = ((0.91, 0.99), (0.01, 0.05))  # t(1) = 12.706; half an interval is 50.8, 25.4, 25.4
    lines = [line(m, s, a) for m, v in (("learned", high), ("none", low)) for s, a in enumerate(v)]
    text = table(SUITE, lines, {})
    assert "| learned delays | 71,680 | 2 | 95.0 ± 5.7 % [44.2, 100.0] |" in text
    assert "| no delays | 71,680 | 2 | 3.0 ± 2.8 % [0.0, 28.4] |" in text
    assert "| no delays | 2 | +92.0 [+66.6, +100.0] | - | - | - |" in text
    assert "Effect and p need 3 seeds or more." in text
    assert "Effect and p need" not in table(SUITE, LINES, {})


def test_test_selected_stands_beside_every_number() -> None:
    chosen = [line("learned", s, 0.9 + s / 100, selection="test-selected") for s in range(3)]
    text = table(SUITE, [*chosen, *LINES[3:]], {})
    rows = [row for row in text.splitlines() if row.startswith("| learned delays")]
    assert [row.count("% [") for row in rows] == [row.count("(test-selected)") for row in rows]
    pairs = [row for row in text.splitlines() if row.startswith("| no delays | 3 | +")]
    assert len(pairs) == 2
    assert all("(test-selected)" in row for row in pairs)


def test_a_group_of_other_recordings_is_neither_shown_nor_paired() -> None:
    known = [{"known speakers": {"accuracy": 0.5, "n": n}} for n in (200, 150)]
    lines = [
        line("learned", s, 0.8, per_speaker_group={**LINES[0]["per_speaker_group"], **known[0]})
        for s in range(2)
    ]
    same = [*lines, *({**ln, "member": "none"} for ln in lines)]
    assert "known speakers (n = 200)" in table(SUITE, same, {})
    unlike = [
        *lines,
        *({**ln, "per_speaker_group": {**ln["per_speaker_group"], **known[1]}} for ln in same[2:]),
    ]
    text = table(SUITE, unlike, {})
    assert text.count("known speakers") == 1
    assert "Not shown, since their recordings differ between rows: known speakers." in text
    assert "minus each other network, unseen speakers" in text


def test_differences_without_spread_have_no_p() -> None:
    lines = [line(m, s, a) for m, a in (("learned", 0.8), ("none", 0.4)) for s in range(3)]
    assert "| no delays | 3 | +40.0 [+40.0, +40.0] | - | - | - |" in table(SUITE, lines, {})


def test_what_differs_between_runs_is_said() -> None:
    gpu = {"cpu": "X", "threads": 1, "device": "cuda", "gpu": "H100"}
    lines = [
        *LINES[:3],
        line("none", 0, 0.4, machine=gpu, versions={"torch": "3"}, parameters=70000, n=1100),
        line("none", 1, 0.4, parameters=70100),
        line("none", 2, 0.4, parameters=70050),
    ]
    text = table(SUITE, lines, {}, ["train.epochs=3"])
    assert "1 threads a run, cpu, H100; torch 2, 3. Options that differ from the suite's:" in text
    assert "the suite's: train.epochs=3." in text
    assert "| no delays | 70,000 to 70,100 | 3 |" in text
    assert "all (n = 1,200, 1,100)" in text


def test_rows_of_other_data_or_held_out_speakers_are_not_compared() -> None:
    other = [{**ln, "data_hash": "d2"} for ln in LINES[3:]]
    text = table(SUITE, [*LINES[:3], *other], {})
    assert "minus each other network" not in text
    assert "Rows are not compared" in text
    assert text.count("unseen speakers") == 1  # where it says that they are not shown
    fold = [{**ln, "config": {"data": {"fold": 1}}} for ln in LINES[3:]]
    text = table(SUITE, [*LINES[:3], *fold], {})
    assert "minus each other network, all" in text
    assert text.count("unseen speakers") == 1


ASKED = replace(SUITE, verdicts=[["learned", "none"], ["none", "learned"], ["learned", "late"]])


def verdicts(*accuracies: tuple[str, list[float]], **changes: Any) -> list[str]:
    lines = [line(m, s, a, **changes) for m, values in accuracies for s, a in enumerate(values)]
    text = table(ASKED, lines, {})
    return [row for row in text.partition("Verdict (")[2].splitlines() if row.startswith("- ")]


def test_verdicts_are_sentences() -> None:
    one, other = [0.80, 0.82, 0.84], [0.40, 0.41, 0.42]  # differences 40, 41, 42
    assert verdicts(("learned", one), ("none", other)) == [
        "- Learned delays add 41.0 [38.5, 43.5] points over no delays; n = 3.",
        "- No delays lose 41.0 [38.5, 43.5] points to learned delays; n = 3.",
    ]
    same = [0.79, 0.83, 0.83]  # differences 1, -1, 1: t(2) = 4.303, interval +-2.87
    assert verdicts(("learned", one), ("none", same))[0] == (
        "- No difference could be shown between learned delays and no delays"
        " (+0.3 [-2.5, +3.2] points; n = 3)."
    )
    assert verdicts(("learned", one[:2]), ("none", other))[0] == (
        "- Nothing can be said yet of learned delays against no delays: +40.5 points in 2 seeds,"
        " where an interval needs 3."
    )
    assert "points in 1 seed, where" in verdicts(("learned", one[:1]), ("none", other))[0]
    assert verdicts(("learned", one)) == []
    chosen = verdicts(("learned", one), ("none", other), selection="test-selected")
    assert all(sentence.endswith(" (test-selected)") for sentence in chosen)


def test_searches_and_sizes_stand_in_the_table() -> None:
    search = {"options": ["x=1", "y=2"], "accuracies": [0.5, None, 0.7], "n": 40}
    size = {"in": "buffer", "aim": 2000, "found": 1990}
    wide = {"data": {"fold": 0}, "model": {"hidden": [12, 11]}}
    more = {"search": search, "equal": size, "config": wide}
    text = table(SUITE, [*LINES[:3], *({**each, **more} for each in LINES[3:])], {})
    assert "the best of 3 trials by accuracy on validation data (n = 40)" in text
    assert "| no delays | x=1 y=2 | 70.0 % | 50.0 to 70.0 %, 1 failed |" in text
    assert "as large as learned delays; one neuron more would" in text
    assert "| no delays | 12, 11 | bytes of the delay buffer | 1,990 of 2,000 | -0.5 % |" in text
    assert "trials" not in table(SUITE, LINES, {})
    assert "Widths" not in table(SUITE, LINES, {})


def test_published_numbers_stand_beside_the_suite_s_own_options() -> None:
    assert "published" in table(SUITE, LINES, {})
    assert "published" not in table(SUITE, LINES, {}, ["train.epochs=3"])


@pytest.mark.parametrize(
    ("folder", "suite"), [("fsdd", "fsdd"), ("fsdd/protocol", "protocol"), ("fsdd/early", "early")]
)
def test_committed_tables_are_made_of_their_results(folder, suite) -> None:
    place = Path(__file__).parents[2] / "scripts/reproduce" / folder
    lines = read_results(place / "results.jsonl")
    found = load_suite(config_folder() / SUITES, suite)
    assert (place / "table.md").read_text("utf-8") == table(found, lines, {})


def test_nothing_is_known_yet() -> None:
    text = table(SUITE, [], {})
    assert text.startswith("# Words\n")
    assert "learned delays, no delays, not there yet" in text


def test_a_repetition_is_compared_without_its_times() -> None:
    epochs = [{"epoch": 1, "train_loss": 0.5, "seconds": 3.0, "samples_per_second": 9.0}]
    a = line("learned", 0, 0.8, epochs=epochs, seconds=5.0)
    b = line("learned", 0, 0.8, epochs=[{**epochs[0], "seconds": 4.0}], seconds=6.0)
    assert reproducible_values(a) == reproducible_values(b)
    assert reproducible_values(a) != reproducible_values({**a, "accuracy": 0.81})
    assert reproducible_values(a) != reproducible_values(
        {**a, "epochs": [{**epochs[0], "train_loss": 0.6}]}
    )


def test_two_results_are_compared(tmp_path, capsys) -> None:
    changed = [{**ln, "accuracy": 0.1} if ln["member"] == "none" else ln for ln in LINES]
    for name, lines in (("a", LINES), ("b", LINES[:4]), ("c", changed)):
        (tmp_path / name).mkdir()
        write_results(tmp_path / name, lines)
    a, b, c = (str(tmp_path / name / "results.jsonl") for name in "abc")
    assert same.main([a, b]) == 0
    assert capsys.readouterr().out == "4 runs in both, 0 of them different.\n"
    assert same.main([a, c]) == 1
    assert (
        "3 of them different. none, seed 0; none, seed 1; none, seed 2" in capsys.readouterr().out
    )


def test_later_options_count() -> None:
    assert overrides(["a=1", "b=2"], ["b=3"], ["+c=4"]) == ["a=1", "b=3", "+c=4"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("title: x\nseeds: 1\n", "does not describe a suite"),
        ("members: [1]\n", "does not describe a suite"),
        ("title: x\nseeds: 1\nmembers: {a: {label: b}}\n", "does not describe a suite"),
        ("title: x\nseeds: 1\nbaseline: z\nmembers: {a: {label: b, options: []}}", "baseline z"),
        (": :", "does not describe a suite"),
        (
            "title: x\nseeds: 1\nverdicts: [[a, b]]\nmembers: {a: {label: b, options: []}}",
            r"verdicts: \['a', 'b'\] is not a pair of a",
        ),
        (
            "title: x\nseeds: 1\nmembers: {a: {label: b, options: [], equal: parameters}}",
            "compares with another member, the baseline",
        ),
        (
            "title: x\nseeds: 1\nbaseline: b\nmembers:\n  a: {label: a, options: [], equal: size}\n"
            "  b: {label: b, options: []}",
            "equal: size of a must be parameters or buffer",
        ),
        (
            "title: x\nseeds: 1\nmembers: {a: {label: b, options: [], search: {x: [1]}}}",
            "a member has a search, but the suite gives no search.trials",
        ),
        (
            "title: x\nseeds: 1\nbaseline: b\nsearch: {trials: 1, space: {model.hidden: [[1]]}}\n"
            "members:\n  a: {label: a, options: [], equal: buffer}\n  b: {label: b, options: []}",
            "equal: buffer of a sets model.hidden: do not search it",
        ),
        (
            "title: x\nseeds: 1\nsearch: {trials: a few, space: {}}\nmembers: {}",
            "search needs trials, a number, and space",
        ),
        ("title: x\nseeds: 1\nsearch: {trials: 1}\nmembers: {}", "does not describe a suite"),
    ],
)
def test_a_wrong_suite_is_one_sentence(text, words, tmp_path) -> None:
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=words):
        load_suite(tmp_path, "mine")
    with pytest.raises(UserError, match=r"suite=mien is not one of mine. Did you mean 'mine'\?"):
        load_suite(tmp_path, "mien")


@pytest.mark.parametrize(
    ("commit", "words"),
    [
        ("f00d", "commit f00d"),
        ("v0.1.0", "release v0.1.0"),
        (None, "a version that is not known"),
    ],
)
def test_the_code_in_words(commit, words) -> None:
    assert results._code(commit) == words
