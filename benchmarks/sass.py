"""What a CUDA kernel's loop costs, read from its machine code: no GPU, and no measurement.

ptxas assembles PTX and says how many registers a thread takes and what is spilled. nvdisasm lists the instructions with
their control bits: how long to wait, which scoreboard is set, which are waited for. The loop is the longest one; loops in
it (of powers of a step's number) are counted `TRIPS` times.

The model is of one scheduler of an H100, of which a multiprocessor has four. An instruction takes a cycle to issue. Then
its pipe is busy: multiply-adds, additions and products 1 cycle (two halves of 2); comparisons, selections, minima and
logic 2; special functions 8, with two that may wait; shuffles 4; loads at least 2. As many warps as registers allow take turns,
greedy first, then the oldest. Not in it: the instruction cache, banks of registers, power, the last wave of blocks. Other
rules of taking turns move such loops by a tenth.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

#: NVIDIA H100 SXM: multiprocessors, schedulers in each, cycles a second, registers of a multiprocessor.
MULTIPROCESSORS, SCHEDULERS, CLOCK, REGISTERS, MOST_WARPS = 132, 4, 1.98e9, 65_536, 64
#: Float32 multiply-adds count as two operations; a scheduler starts those of 32 threads in a cycle.
CEILING = MULTIPROCESSORS * SCHEDULERS * 32 * 2 * CLOCK
TRIPS = 11

_ALU = set(
    "FMNMX FMNMX3 FSEL FSETP FSET SEL ISETP LOP3 IADD3 IADD SHF PRMT MOV PLOP3 IMNMX LEA VIADD VIMNMX P2R R2P CS2R".split()
)
_PIPES = {
    "fp32": set("FFMA FADD FMUL FFMA2 FADD2 FMUL2".split()),
    "alu": _ALU | set("IABS FCHK SGXT BMSK FLO SHL SHR VIADDMNMX".split()),
    "mufu": set("MUFU F2I I2F F2F I2FP FRND POPC BREV".split()),
    "memory": set("LDG STG LDS STS LDL STL LDC LD ST S2R SHFL R2UR".split()),
    "branch": set("BRA BRX CALL RET EXIT BSSY BSYNC WARPSYNC NOP BAR DEPBAR YIELD".split()),
}
_LINE = re.compile(r"^\s+/\*([0-9a-f]{4,6})\*/\s+(?:@!?U?P[0-9T]+\s+)?([A-Z0-9_]+(?:\.\w+)*)\s*(.*?)\s*;")
_WORD = re.compile(r"/\* 0x([0-9a-f]{16}) \*/")
#: Cycles until a result of no fixed latency is there.
_LATENCY = {"MUFU": 18, "LDG": 33, "LDL": 33, "LDC": 30, "LDS": 23, "SHFL": 23, "S2R": 20, "R2UR": 12}


class MissingError(RuntimeError):
    """A tool that is needed is not installed; one line."""


class Instruction(NamedTuple):
    """One of the loop's, with its control bits."""

    address: int
    name: str
    operands: str
    stall: int
    sets: int  # a scoreboard when its result is there, 7: none
    frees: int  # a scoreboard when its operands are read, 7: none
    waits: int  # a bit for each scoreboard
    taken: bool = False

    @property
    def pipe(self) -> str:
        """What executes it."""
        base = self.name.split(".")[0]
        if base.startswith(("IMAD", "HFMA")):
            return "imad"
        if base.startswith("U"):
            return "uniform"
        return next((pipe for pipe, names in _PIPES.items() if base in names), "other")


class Kernel(NamedTuple):
    """A kernel's loop, and what its threads take."""

    registers: int
    spilled: int  # bytes, stores and loads
    loop: list[Instruction]  # what is executed in a turn

    @property
    def warps(self) -> int:
        """That share a multiprocessor, in blocks of four."""
        a_warp = -(-self.registers * 32 // 256) * 256
        return min(REGISTERS // (4 * a_warp) * 4, MOST_WARPS)

    @property
    def pipes(self) -> dict[str, int]:
        """Instructions of a turn by pipe."""
        return dict(Counter(instruction.pipe for instruction in self.loop).most_common())

    @property
    def cycles(self) -> float:
        """Of a scheduler for a turn of one warp, where all warps take turns."""
        at_once = max(self.warps // SCHEDULERS, 1)
        return simulated(self.loop, at_once) / at_once

    @property
    def rate(self) -> float:
        """Turns a second of all threads of an H100, modelled."""
        return MULTIPROCESSORS * SCHEDULERS * 32 * CLOCK / self.cycles


def tool(name: str) -> str:
    """The path of ptxas or nvdisasm: of NVIDIA's wheels, else of the system.

    Raises:
        MissingError: there is none.
    """
    for folder in sys.path:
        if (found := Path(folder) / "nvidia" / "cu13" / "bin" / name).is_file():
            return str(found)
    path = shutil.which(name)
    if path is None:
        raise MissingError(f"no {name}; make test-gpu-static installs it")
    return path


def assembled(ptx: str, architecture: str = "sm_90") -> Kernel:
    """What ptxas makes of a kernel.

    Raises:
        MissingError: ptxas or nvdisasm is not here.
        ValueError: ptxas refuses it.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, binary = Path(folder) / "kernel.ptx", Path(folder) / "kernel.cubin"
        source.write_text(ptx)
        if f".target {architecture}a" in ptx:  # made for this kind alone
            architecture += "a"
        command = [tool("ptxas"), "-arch", architecture, "-v", str(source), "-o", str(binary)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise ValueError(f"ptxas: {done.stderr.strip().splitlines()[0]}")
        listing = subprocess.run([tool("nvdisasm"), "-c", "-hex", str(binary)], capture_output=True, text=True).stdout
    registers = re.search(r"Used (\d+) registers", done.stderr)
    assert registers is not None
    spilled = sum(int(size) for size in re.findall(r"(\d+) bytes spill", done.stderr))
    return Kernel(int(registers[1]), spilled, _loop(listing))


def _loop(listing: str) -> list[Instruction]:
    """The longest loop, with those inside it written out."""
    code, labels, waiting = [], {}, []
    lines = listing.splitlines()
    for number, line in enumerate(lines[:-1]):
        if label := re.match(r"^(\.L_\w+):", line):
            waiting.append(label[1])
        elif (found := _LINE.match(line)) and (high := _WORD.search(lines[number + 1])):
            control = int(high[1], 16) >> 41
            address = int(found[1], 16)
            fields = (control & 15, control >> 5 & 7, control >> 8 & 7, control >> 11 & 63)
            code.append(Instruction(address, found[2], found[3], *fields))
            labels.update(dict.fromkeys(waiting, address))
            waiting = []
    loops = []
    for instruction in code:
        target = labels.get(next(iter(re.findall(r"\.L_\w+", instruction.operands)), ""))
        if instruction.name.split(".")[0] == "BRA" and target is not None and target < instruction.address:
            loops.append((target, instruction.address))
    loops.sort(key=lambda loop: loop[0] - loop[1])
    begin, end = loops[0]
    body = [instruction for instruction in code if begin <= instruction.address <= end]
    for first, last in loops[1:]:
        if begin <= first and last <= end:
            inner = [i._replace(taken=i.address == last) for i in body if first <= i.address <= last]
            at = next(number for number, i in enumerate(body) if i.address == first)
            body[at:at] = inner * (TRIPS - 1)
    return body


def simulated(body: list[Instruction], warps: int, turns: int = 12) -> float:
    """Cycles in which so many warps of one scheduler take a turn of the loop each."""
    state = [_Warp(3 * number) for number in range(warps)]
    pipes = _Pipes()
    size = len(body)
    warm, stop = (factor * size * max(warps, 2) for factor in (2, turns))
    now = issued = last = 0
    for now in range(stop):
        for number in (last, *range(warps)):
            warp = state[number]
            instruction = body[warp.place]
            if warp.ready > now or any(instruction.waits >> k & 1 and at > now for k, at in enumerate(warp.scoreboard)):
                continue
            times = pipes.start(instruction, now)
            if times is None:
                continue
            done, read = times
            if instruction.pipe not in ("fp32", "imad", "alu"):
                for board, at in ((instruction.sets, done), (instruction.frees, read)):
                    if board < 6:
                        warp.scoreboard[board] = max(warp.scoreboard[board], at)
            warp.ready = now + max(instruction.stall, 1) + 8 * instruction.taken
            warp.place += 1
            if warp.place == size:
                warp.place, warp.ready = 0, max(warp.ready, now + 8)
            last = number
            issued += now >= warm
            break
    return (stop - warm) * size * warps / issued


class _Warp:
    """Where a warp is, when it may go on, and when its scoreboards are free."""

    def __init__(self, ready: float) -> None:
        self.place, self.ready, self.scoreboard = 0, ready, [0.0] * 6


class _Pipes:
    """When each pipe of a scheduler is free again."""

    def __init__(self) -> None:
        self.multiply, self.alu, self.special, self.memory = [0.0, 0.0], 0.0, 0.0, 0.0

    def start(self, instruction: Instruction, now: float) -> tuple[float, float] | None:
        """When the result is there and the operands are read; None where the pipe is busy."""
        pipe, latency = instruction.pipe, _LATENCY.get(instruction.name.split(".")[0], 10)
        if pipe in ("fp32", "imad"):
            half = 0 if pipe == "imad" or self.multiply[0] <= self.multiply[1] else 1
            if self.multiply[half] > now:
                return None
            self.multiply[half] = now + 2
        elif pipe == "alu":
            if self.alu > now:
                return None
            self.alu = now + 2
        elif pipe == "mufu":
            if self.special > now + 16:
                return None
            self.special = max(self.special, now) + 8
            return self.special + latency, self.special
        elif pipe == "memory":
            if self.memory > now:
                return None
            self.memory = now + _memory_cycles(instruction.name)
        return now + latency, now + 10


def _memory_cycles(name: str) -> int:
    """Cycles until the next may begin; shuffles are 32 threads in a cycle of a multiprocessor, which four schedulers share."""
    return 8 if ".128" in name else 4 if ".64" in name or name.startswith("SHFL") else 2
