"""CUDA C to PTX by NVRTC, which jax[cuda13] and the system's CUDA bring. Needs no GPU and no driver."""

from __future__ import annotations

import ctypes
import functools
import re
import sys
from collections.abc import Iterator
from pathlib import Path

#: The oldest GPUs that it is made for (A100); newer ones take the same PTX.
ARCHITECTURE = "compute_80"
#: Nothing here needs a newer version of PTX, and the assembler that loads it may be older than NVRTC.
PTX_VERSION = "8.0"
_OPTIONS = ("--ftz=true", "--fmad=true", "--std=c++17", "-w")


class NvrtcError(RuntimeError):
    """NVRTC is not there, or does not compile a text; one line."""


def ptx(text: str) -> str:
    """The PTX of a CUDA C text.

    Raises:
        NvrtcError: there is no NVRTC, or it refuses the text.
    """
    nvrtc = library()
    if nvrtc is None:
        raise NvrtcError("no NVRTC is installed; jax[cuda13] brings it")
    program = ctypes.c_void_p()

    def text_of(name: str) -> str:
        size = ctypes.c_size_t()
        getattr(nvrtc, f"nvrtcGet{name}Size")(program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        getattr(nvrtc, f"nvrtcGet{name}")(program, buffer)
        return buffer.value.decode(errors="replace")

    words = [f"--gpu-architecture={ARCHITECTURE}".encode(), *(option.encode() for option in _OPTIONS)]
    failed = nvrtc.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"ncsim.cu", 0, None, None)
    if failed:
        raise NvrtcError(f"NVRTC makes no program (error {failed})")
    try:
        failed = nvrtc.nvrtcCompileProgram(program, len(words), (ctypes.c_char_p * len(words))(*words))
        if failed:
            lines = [line for line in text_of("ProgramLog").splitlines() if "error" in line] or [f"error {failed}"]
            raise NvrtcError(f"NVRTC does not compile the kernel: {lines[0].strip()[:160]}")
        return re.sub(r"^\.version .*$", f".version {PTX_VERSION}", text_of("PTX"), flags=re.MULTILINE)
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


@functools.lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """NVRTC, loaded: of NVIDIA's wheels, else of the system; None where there is none."""
    for place in _places():
        try:
            for beside in Path(place).parent.glob("libnvrtc-builtins.so.*"):
                ctypes.CDLL(str(beside), ctypes.RTLD_GLOBAL)  # NVRTC looks for it by its name alone
            return ctypes.CDLL(place)
        except OSError:
            continue
    return None


def _places() -> Iterator[str]:
    names = ("libnvrtc.so.13", "libnvrtc.so.12")
    for folder in sys.path:
        for inner in ("cu13", "cuda_nvrtc"):
            for name in names:
                if (found := Path(folder) / "nvidia" / inner / "lib" / name).is_file():
                    yield str(found)
    yield from names
    for name in names:
        if (found := Path("/usr/local/cuda/lib64") / name).is_file():
            yield str(found)
