"""PCK of each step, compared with counts by hand."""

import numpy as np
import pytest

from stages.forecasting.movements import published_starts
from stages.forecasting.scoring import Counts, difference_by_step
from tests.stages.forecasting.made import movements


def test_hits_are_counted_by_sequence_step_and_joint():
    found = movements({3: 2, 4: 1})
    found.joints[1, 7] = np.nan
    starts = published_starts(found)
    forecasts = found.joints[starts.rows].copy()
    forecasts[0, 0, 2, 0] += 2.999  # 0.05 of 60 px is 3 px: a joint is correct below this distance
    forecasts[0, 0, 3, 0] += 3
    forecasts[2, :, 5] = np.nan  # a joint without a forecast is a miss
    counts = Counts.empty(found, 16)
    counts.add(found, starts.select(np.array([0])), forecasts[:1])
    counts.add(found, starts.select(np.array([1, 2])), forecasts[1:])
    # There are three forecasts of 13 joints. Joint 7 is hidden in the second frame, so it is hidden in steps 9 to 16 of the
    # first forecast and in all steps of the second forecast.
    assert counts.seen.sum(axis=(0, 2)).tolist() == [38] * 8 + [37] * 8
    assert counts.hits.sum(axis=(0, 2)).tolist() == [36] + [37] * 7 + [36] * 8
    assert counts.by_step()[0] == pytest.approx(36 / 38) and counts.by_joint()[0, 5] == pytest.approx(2 / 3)
    assert counts.by_action(found)["squat"][3] == pytest.approx(37 / 38)
    assert counts.hits[0, 0, 3] == 1 and counts.hits[0, 0, 2] == 2
    assert counts.by_threshold()[5].tolist() == counts.by_step().tolist() and counts.by_threshold()[0].max() == 0


def test_the_better_of_two_forecasters_is_shown_by_sequences():
    found = movements({i: 3 for i in range(1, 30)})
    starts = published_starts(found)
    truth = found.joints[starts.rows]
    good, bad = Counts.empty(found, 16), Counts.empty(found, 16)
    good.add(found, starts, truth)
    wrong = truth.copy()
    wrong[:, 4, ::2] += 10
    bad.add(found, starts, wrong)
    by_step = difference_by_step(bad, good)
    assert by_step[4].value == pytest.approx(7 / 13) and by_step[4].p < 0.001 and by_step[4].groups == 29
    assert by_step[3].value == 0 and by_step[3].p == 1
