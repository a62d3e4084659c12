"""The model of GPU kernels, and what it says of ours. With the tools of `make test-gpu-static`; skipped where they are not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks import ahead, gpu_static, sass, text_static
from benchmarks.text_work import SIZES
from ncsim.config.ensemble import ELEMENTWISE_OPTIMIZERS
from ncsim.executors.cuda import nvrtc

ROOT = Path(__file__).resolve().parents[2]
#: What the kernel's loop may come to: instructions, share of the multiply-add ceiling, warps of a multiprocessor.
BOUNDS = {2: (650, 0.55, 16), 3: (880, 0.60, 16), 4: (1_110, 0.60, 12), 8: (2_200, 0.45, 8)}
#: Of a team's thread, which has up to four units.
BOUNDS |= {9: (1_250, 0.28, 12), 16: (1_550, 0.40, 12), 32: (1_650, 0.36, 12), 64: (1_700, 0.35, 12)}
#: Most that is spilled, in bytes stored and loaded: of the widest network a thread, and of four units and all rows.
SPILLED = {8: 500, 16: 300, 32: 300, 64: 300}
RESULTS = ROOT / "benchmarks" / "results" / "gpu-static.json"


def missing():
    if nvrtc.library() is None:
        return "no NVRTC; make test-gpu-static installs it"
    try:
        return [sass.tool(name) for name in ("ptxas", "nvdisasm")] and None
    except sass.MissingError as error:
        return str(error)


needs_tools = pytest.mark.skipif(missing() is not None, reason=missing() or "")
needs_plugin = pytest.mark.skipif(ahead.missing() is not None, reason=ahead.missing() or "")


def loop(name, count, stall=1):
    return [sass.Instruction(16 * k, name, "", stall, 7, 7, 0) for k in range(count)]


@pytest.mark.parametrize(
    ("name", "cycles"), [("FFMA", 1), ("FSETP.GT", 2), ("MUFU.EX2", 8), ("FMNMX", 2), ("LDL", 2), ("SHFL.BFLY", 4)]
)
def test_pipes_bind_as_they_are_wide(name, cycles):
    """Four warps, so that none waits for its own latency."""
    assert sass.simulated(loop(name, 200), 4) / 4 == pytest.approx(200 * cycles, rel=0.05)


def test_latency_binds_one_warp_and_is_hidden_by_four():
    body = loop("FFMA", 100, stall=4)
    assert sass.simulated(body, 1) == pytest.approx(400, rel=0.1)
    assert sass.simulated(body, 4) / 4 == pytest.approx(100, rel=0.1)


def test_a_result_is_waited_for():
    body = loop("MUFU.RCP", 1) + loop("FADD", 1)
    body[0], body[1] = body[0]._replace(sets=0), body[1]._replace(waits=1)
    assert sass.simulated(body * 50, 1) > 50 * 26


def test_listings_are_read():
    """A loop in a loop: the inner one is written out, as many times as it turns."""
    high = f"/* 0x{(4 | 7 << 5 | 7 << 8) << 41:016x} */"
    names = ["FADD R0, R1, R2", "FMUL R0, R0, R0", "@P0 BRA `(.L_x_1)", "@P1 BRA `(.L_x_0)", "EXIT"]
    lines = []
    for number, name in enumerate(names):
        lines += {0: [".L_x_0:"], 1: [".L_x_1:"]}.get(number, [])
        lines += [f"        /*{16 * number:04x}*/   {name} ;   /* 0x0000000000000000 */", f"    {high}"]
    found = sass._loop("\n".join(lines))
    assert [i.name for i in found] == ["FADD", *["FMUL", "BRA"] * sass.TRIPS, "BRA"]
    assert {i.stall for i in found} == {4}


def now(hidden):
    threads = gpu_static.threads(hidden)
    return gpu_static.row("cuda", hidden, "adam", "bce", gpu_static.generated(hidden), "sm_90", threads)


@needs_tools
@pytest.mark.parametrize("hidden", BOUNDS)
def test_the_kernel_stays_as_small_as_it_is(hidden):
    found = now(hidden)
    instructions, share, warps = BOUNDS[hidden]
    assert found["instructions"] <= instructions
    assert found["warps"] >= warps
    assert found["modelled_share_of_ceiling"] >= share
    assert found["spilled_bytes"] <= SPILLED.get(hidden, 0)


@needs_tools
def test_many_rows_take_blocks_of_registers():
    """64 rows at n = 16, in blocks: next to nothing is spilled, and the loop is some four times that of 16 rows."""
    found = gpu_static.many_rows(16)
    assert found["spilled_bytes"] <= 200
    assert found["instructions"] <= 5_300
    assert found["warps"] >= 8


@needs_tools
@pytest.mark.parametrize("architecture", gpu_static.ARCHITECTURES)
def test_assembles_without_spills(architecture):
    for hidden in (2, 3, 4):
        kernel = sass.assembled(gpu_static.generated(hidden), architecture)
        assert kernel.spilled == 0
        assert kernel.warps >= 12


@needs_tools
@pytest.mark.parametrize("optimizer", ELEMENTWISE_OPTIMIZERS)
def test_every_optimizer_assembles(optimizer):
    for loss in ("bce", "squared_error", "cross_entropy"):
        assert sass.assembled(gpu_static.generated(2, optimizer, loss), "sm_80").warps >= 4
    assert sass.assembled(gpu_static.generated(16, optimizer), "sm_80").warps >= 8


@needs_tools
def test_results_are_of_this_kernel():
    """Names what is compared, says that it is no measurement, and has the kernel's numbers of now."""
    stored = json.loads(RESULTS.read_text())
    assert "not measured on a device" in stored["what"]
    many = {(r["executor"], r["hidden"]): r for r in stored["rows"] if r.get("rows") == gpu_static.MANY_ROWS}
    for hidden in gpu_static.MANY_ROWS_WIDTHS:
        ours, theirs = (many[name, hidden] for name in ("cuda", "xla"))
        assert ours["modelled_network_steps_a_second"] >= 10 * theirs["modelled_network_steps_a_second"]
    names = ("executor", "hidden", "optimizer", "loss", "architecture")
    rows = {tuple(r[name] for name in names): r for r in stored["rows"] if "rows" not in r}
    for hidden in gpu_static.WIDTHS:
        ours, theirs = (rows[name, hidden, "adam", "bce", "sm_90"] for name in ("cuda", "xla"))
        assert ours["modelled_network_steps_a_second"] >= 10 * theirs["modelled_network_steps_a_second"]
        assert now(hidden)["instructions"] == pytest.approx(ours["instructions"], rel=0.02)


def test_pages_have_the_numbers_that_are_stored():
    """docs/scaling.md had 3.5e10 network-steps per second where the table and the model have 3.4e10."""
    stored = json.loads(RESULTS.read_text())["rows"]
    page, table = ((ROOT / name).read_text() for name in ("docs/scaling.md", "benchmarks/README.md"))
    for hidden in gpu_static.WIDTHS:
        ours, theirs = (
            next(
                r
                for r in stored
                if (r["executor"], r["hidden"], r["architecture"]) == (name, hidden, "sm_90") and "rows" not in r
            )
            for name in ("cuda", "xla")
        )
        rates = [
            f"{each['modelled_network_steps_a_second']:.1e}".replace("e+0", "e").replace("e+", "e")
            for each in (ours, theirs)
        ]
        numbers = [hidden, *(ours[name] for name in ("threads_a_network", "registers", "spilled_bytes", "warps"))]
        cells = [
            *numbers,
            f"{ours['instructions']:,}",
            rates[0],
            f"{ours['modelled_share_of_ceiling']:.0%}".replace("%", " %"),
            rates[1],
        ]
        assert f"| {' | '.join(map(str, cells))} |\n" in table
        if hidden == 3:
            assert f"not measured: {rates[0]} network-steps per second" in page


def test_bytes_of_kernels_are_of_operands_and_results():
    listing = """HloModule jit_step
%inner (p: f32[4,8]) -> f32[4,8] {
  %p = f32[4,8]{1,0} parameter(0)
  ROOT %exp = f32[4,8]{1,0} exponential(%p)
}

ENTRY %main (a: f32[4,8], b: s32[]) -> (f32[4,8], s32[]) {
  %a = f32[4,8]{1,0} parameter(0)
  %b = s32[] parameter(1)
  %fusion.1 = (f32[4,8]{1,0}, pred[8]{0}) fusion(%a, %b), kind=kLoop, calls=%inner
  %part = f32[4,8]{1,0} get-tuple-element(%fusion.1), index=0
  ROOT %tuple = (f32[4,8]{1,0}, s32[]) tuple(%part, %b)
}
"""
    assert gpu_static.bytes_of_kernels(listing) == (128 + 4) + (128 + 8)


BLOCK_PROGRAM = """
import sys
import numpy as np, jax
from benchmarks import ahead
import ncsim
from ncsim.executors import xla
from ncsim.executors.cuda import program
mesh = jax.sharding.Mesh(np.array([ahead.device()]), (xla.MEMBERS,))
for hidden, points in ((2, None), (2, 5), (16, None)):
    made = program.block_program(ncsim.EnsembleConfig(hidden=hidden), mesh, 2, points=points)
    (compiled,) = [cell.cell_contents for cell in made.run.__closure__ if hasattr(cell.cell_contents, "as_text")]
    print(compiled.as_text().count('custom_call_target="__gpu$xla.gpu.ptx"'))
"""


@needs_tools
@needs_plugin
def test_xla_compiles_the_whole_program_for_an_h100():
    """Drawing, training by four kernels, recording and counting, in the loops over blocks and contexts."""
    done = subprocess.run(
        [sys.executable, "-c", BLOCK_PROGRAM], capture_output=True, text=True, env=ahead.environment(), timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["4", "4", "4"]


TEXT_LISTING = """HloModule jit_train_steps
%products (p: bf16[4,8]) -> bf16[4,4] {
  %p = bf16[4,8]{1,0} parameter(0)
  ROOT %dot = bf16[4,4]{1,0} dot(%p, %p), lhs_contracting_dims={1}, rhs_contracting_dims={1}
}

%body (state: (s32[], bf16[4,8])) -> (s32[], bf16[4,8]) {
  %state = (s32[], bf16[4,8]{1,0}) parameter(0)
  %x = bf16[4,8]{1,0} get-tuple-element(%state), index=1
  %fusion = bf16[4,4]{1,0} fusion(%x), kind=kCustom, calls=%products
  %gemm = (bf16[4,16]{1,0}, s8[64]{0}) custom-call(%x, %x), custom_call_target="__cublas$gemm", backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"],"rhs_contracting_dimensions":["0"]}}}
  %q = bf16[2,4,3,8]{3,2,1,0} bitcast(%x)
  %attention = (bf16[2,3,4,8]{3,1,2,0}, f32[2,3,4]{2,1,0}) custom-call(%q, %q, %q), custom_call_target="__cudnn$fmhaScaleBiasSoftmax"
  ROOT %out = (s32[], bf16[4,8]{1,0}) tuple(%x, %x)
}

ENTRY %main (a: bf16[4,8]) -> bf16[4,8] {
  %a = bf16[4,8]{1,0} parameter(0)
  %loop = (s32[], bf16[4,8]{1,0}) while(%a), condition=%c, body=%body, backend_config={"known_trip_count":{"n":"11"}}
  %w = bf16[2,4,3,8]{3,2,1,0} parameter(1)
  %fmha = (bf16[2,3,4,8]{3,1,2,0}) custom-call(%w, %w), custom_call_target="__cudnn$fmhaScaleBiasSoftmaxBackward"
  ROOT %dot.2 = f32[8,8]{1,0} dot(%a, %a), lhs_contracting_dims={0}, rhs_contracting_dims={0}
}
"""


def test_operations_of_a_listing_are_those_of_its_products():
    """Loops by their turns, products in fusions and by cuBLAS, and the products that fused attention stands for."""
    found = text_static.operations(TEXT_LISTING)
    in_loop = 2 * 4 * 4 * 8 + 2 * 4 * 16 * 8 + 2 * (2 * 2 * 3 * 4 * 4 * 8)
    assert found.operations == 11 * in_loop + 5 * (2 * 2 * 3 * 4 * 4 * 8) + 2 * 8 * 8 * 4
    assert (found.products, found.fused) == (11 * 2 + 1, 11 + 1)


@needs_plugin
def test_xla_compiles_the_text_branch_for_an_h100():
    """Fused attention in all layers but the last, forwards and backwards, for adapters together; one product a kernel."""
    rows = {
        (how, adapters): text_static.compiled(how, adapters, "tiny") for how, adapters in (("xla", 2), ("cudnn", 2))
    }
    layers = SIZES["tiny"].layers
    assert rows["xla", 2]["fused_attention_calls"] == 0
    assert rows["cudnn", 2]["fused_attention_calls"] == 2 * (layers - 1)
    # Of two layers the first sends no gradient on: less than the formula, which is of many layers.
    assert 0.85 < rows["xla", 2]["operations_to_formula"] < rows["cudnn", 2]["operations_to_formula"] < 1.05
    assert rows["cudnn", 2]["temporary_bytes"] < rows["xla", 2]["temporary_bytes"]


def test_text_results_are_of_what_was_asked():
    """BERT-base in bfloat16, 128 tokens: operations as the formula has them, and no product more for adapters together than their
    own factors have."""
    rows = {(row["attention"], row["adapters"]): row for row in json.loads(RESULTS.read_text())["text"]}
    assert set(rows) == set(text_static.PROGRAMS)
    for (attention, adapters), row in rows.items():
        assert (row["size"], row["precision"], row["tokens_of_a_row"]) == ("bert-base", "bfloat16", 128)
        assert row["operations_to_formula"] == pytest.approx(1, abs=0.02)
        assert row["fused_attention_calls"] == (22 if attention == "cudnn" else 0)
        assert row["needed_bytes"] < 0.85 * 80e9
        alone = rows[attention, 1]["matrix_products"]
        assert row["matrix_products"] < 1.3 * alone, f"{adapters} adapters"
