"""Some odd files of `odd_files.py`, the same ones every time; that script draws more."""

import odd_files
import pytest


@pytest.mark.parametrize("form", odd_files.FORMS)
def test_odd_files_are_read_as_others_read_them_or_refused(form):
    outcomes = [odd_files.trial(form, (0, i)) for i in range(25)]
    assert not [outcome for outcome in outcomes if outcome[1].startswith("WRONG")]
    assert {outcome for _, outcome in outcomes} == {"read alike", "refused"}
