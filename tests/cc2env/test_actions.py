"""Bad actions are named: what was expected, what came, and where."""

import numpy as np
import pytest

from cc2env.actions import check_action
from cc2env.spaces import MAX_ROTATION, MAX_TRANSLATION, action_space

SHAPE = (4, 6)


def with_value(where, value):
    action = np.zeros(SHAPE, dtype=np.float32)
    action[where] = value
    return action


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (np.zeros((3, 6), np.float32), r"expected shape \(4, 6\), got \(3, 6\)"),
        (np.zeros(24, np.float32), r"expected shape \(4, 6\), got \(24,\)"),
        (np.zeros(SHAPE, np.int64), "expected dtype float32, got int64"),
        (np.zeros(SHAPE, bool), "expected dtype float32, got bool"),
        ("forward", "expected dtype float32, got <U7"),
        (None, "expected dtype float32, got object"),
        ([[0.0], [0.0, 1.0]], "expected an array of shape"),
        (with_value((1, 2), np.nan), r"finite numbers, got nan at \(1, 2\)"),
        (with_value((3, 5), -np.inf), r"finite numbers, got -inf at \(3, 5\)"),
        (with_value((0, 2), 0.61), r"z \(forward\) between -0.6 and 0.6 m .* got 0.61 at \(0, 2\)"),
        (with_value((2, 4), -0.3), r"rotation about y between -0.2 and 0.2 rad .* got -0.3 at \(2, 4\)"),
        (np.full(SHAPE, 1e300), "expected x"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_errors_name_what_came(action, message):
    with pytest.raises(ValueError, match=f"^action: .*{message}"):
        check_action(action, SHAPE)


def test_bounds_themselves_are_inside_in_any_precision():
    space = action_space(4)
    assert (check_action(space.high, SHAPE) == space.high).all()
    assert (check_action(space.low.astype(np.float64), SHAPE) == space.low).all()
    exact = np.tile([MAX_TRANSLATION] * 3 + [MAX_ROTATION] * 3, (4, 1))
    assert space.contains(check_action(exact, SHAPE))
    assert space.contains(check_action(exact.tolist(), SHAPE))


def test_the_checked_action_is_a_copy():
    action = np.zeros(SHAPE, np.float32)
    check_action(action, SHAPE)[0, 0] = 1
    assert action[0, 0] == 0
