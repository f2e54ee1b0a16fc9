"""Means, intervals and verdicts of the paper's tables, against scipy and by hand."""

import pytest
from scipy import stats

from model.evaluation.paper_table import mean_and_interval, paper_table, verdict


@pytest.mark.parametrize("values", [[1.0, 2.0], [0.3, 0.1, 0.5], [4.0, 4.5, 3.0, 2.0, 6.0]])
def test_the_interval_is_students(values: list[float]) -> None:
    mean, half = mean_and_interval(values)
    low, high = stats.t.interval(0.95, len(values) - 1, loc=mean, scale=stats.sem(values))
    assert half is not None and (mean - half, mean + half) == pytest.approx((low, high), rel=1e-3)
    assert mean_and_interval([2.0]) == (2.0, None)


@pytest.mark.parametrize(
    ("differences", "paper", "said"),
    [
        ([1.0, 1.1, 0.9], 5.0, "held"),
        ([1.0, 1.1, 0.9], -5.0, "did not hold"),
        ([-1.0, -1.1, -0.9], -5.0, "held"),
        ([1.0, -1.0, 0.2], 5.0, "within chance"),
        ([1.0], 5.0, "within chance"),  # one seed has no interval
    ],
)
def test_an_ordering_holds_only_where_chance_cannot_have_made_it(
    differences: list[float], paper: float, said: str
) -> None:
    assert verdict(differences, paper) == said


def test_the_table_names_what_stands_for_what_and_leaves_out_what_was_not_found() -> None:
    def row(turn: float | None) -> dict[str, object]:
        return {"search_rot_err_deg": turn, "motion_ratio": 0.5, "psnr": 20.0}

    rows = {"full": [row(1.0), row(1.2)], "rival": [row(3.0), row(3.2)], "lost": [row(None), row(2.0)]}
    paper = {"full": {"rot_err_deg": 1.5}, "rival": {"rot_err_deg": 2.5}, "lost": {"rot_err_deg": 9.0}}
    table = paper_table(rows, paper, {"rival": {"rot_err_deg": 4.0}}, dict.fromkeys(rows, "10, 0.1"))
    assert "search_rot_err_deg (rot_err_deg, lower is better)" in table and "motion_ratio" not in table
    assert "| full | 2 | 10, 0.1 | 1.1 ± 1.3 (1.5) | 20 ± 0 |" in table
    # the rival's own reference, 4.0, is worse than it: the paper's ordering is the other way round
    assert "- rival, rot_err_deg 2.5 against 4: **did not hold** (search_rot_err_deg +2" in table
    assert "| lost | 2 | 10, 0.1 | 2 (9) |" in table and "- lost" not in table
