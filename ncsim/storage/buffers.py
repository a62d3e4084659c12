"""Numbers of Arrow as NumPy's and back, by their memory: pyarrow's own ways import pandas wherever it is installed."""

from __future__ import annotations

import numpy as np
import pyarrow as pa


def numbers_of(array: pa.Array) -> np.ndarray:
    """The numbers or booleans of an array without nulls, as a view of its memory; booleans are unpacked.

    Raises:
        ValueError: it has nulls.
    """
    if array.null_count:
        raise ValueError("it has nulls")
    data = array.buffers()[1]
    if data is None or len(array) == 0:
        return np.zeros(0, array.type.to_pandas_dtype())
    if pa.types.is_boolean(array.type):
        bits = np.frombuffer(data, np.uint8)
        there = np.unpackbits(bits, count=array.offset + len(array), bitorder="little")
        return there[array.offset :].astype(bool)
    kind = np.dtype(array.type.to_pandas_dtype())
    return np.frombuffer(data, kind, len(array), array.offset * kind.itemsize)


def array_of(numbers: np.ndarray) -> pa.Array:
    """Numbers [N] as an array, without a copy where they lie together; booleans as bytes 0 and 1."""
    numbers = np.ascontiguousarray(numbers.view(np.uint8) if numbers.dtype == bool else numbers)
    return pa.Array.from_buffers(pa.from_numpy_dtype(numbers.dtype), numbers.size, [None, pa.py_buffer(numbers)])


def bytes_of(sink: pa.BufferOutputStream) -> memoryview:
    """What was written to a stream, to be changed in place."""
    return memoryview(sink.getvalue()).cast("B")
