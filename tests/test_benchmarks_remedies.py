import pytest

from benchmarks import remedies


@pytest.mark.slow
def test_a_case_is_judged_by_other_weights_and_other_batches(monkeypatch, capsys):
    monkeypatch.setattr(remedies, "STEPS", 40)
    monkeypatch.setattr(remedies, "LONGER", 60)
    case = remedies.cases()["(B, 1) with (B,)"]
    row, learns = remedies.judge("case", case)
    assert row[:2] == ("case", "squeeze(-1) of both")
    assert len(row) == 7
    chosen, at_random, first, unchanged = learns
    assert chosen == first == 1
    assert at_random == pytest.approx(1 / int(row[4].split()[-1].rstrip(")")))
    assert unchanged == 0
    assert capsys.readouterr().out == ""


def test_there_is_a_case_of_each_kind():
    assert len(remedies.cases()) >= 15
