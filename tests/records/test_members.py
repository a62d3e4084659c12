"""What is read off the records of members."""

import numpy as np

from ncsim.records.members import empty_records


def test_one_undecided_answer_of_either_head_is_enough():
    records = empty_records()._replace(
        undecided_alice=np.array([[0, 1, 0, 2], [0, 0, 0, 0]], np.int32),
        undecided_bob=np.array([[0, 0, 1, 1], [0, 0, 0, 16]], np.int32),
    )
    assert records.undecided().tolist() == [[False, True, True, True], [False, False, False, True]]
