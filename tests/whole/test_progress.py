"""Lines of progress where there is no terminal."""

import io

import pytest

from ncsim import terminal


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands, and is moved by hand."""
    now = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    return now


def test_the_time_that_is_left_is_of_training_alone(clock):
    """A minute of compiling and ten seconds of training per tenth of it: after the second call 80 seconds are left. It was said that 320 are."""
    stream = io.StringIO()
    progress = terminal.Progress(stream, "adapters", "items")
    progress.start(8, 1_000)
    for now, items in ((30, 0), (70, 100), (80, 100), (90, 100)):
        clock[0] = now
        progress.advance(0, items)
    assert stream.getvalue().splitlines() == [
        "ncsim: training 8 adapters",
        "ncsim: 0 of 8 adapters after 0:30",
        "ncsim: 0 of 8 adapters and 10% of items after 1:10",
        "ncsim: 0 of 8 adapters, 1.00e+01 items/s, 1:20 left",
        "ncsim: 0 of 8 adapters, 1.00e+01 items/s, 1:10 left",
    ]


def test_a_second_start_compiles_anew(clock):
    stream = io.StringIO()
    progress = terminal.Progress(stream)
    for _ in range(2):
        progress.start(2, 200)
        clock[0] += 50
        progress.advance(1, 100)
        progress.close()
    assert stream.getvalue().splitlines()[2:] == [
        "ncsim: training 2 members",
        "ncsim: 1 of 2 members and 50% of network-steps after 0:50",
    ]
