"""Entropies of attention after adapting in different ways: whether they tell how it was adapted, and how they grow with the text.

Question. Chen et al. (arXiv:2601.06788) find that attention's entropy S_c hardly depends on how a model was adapted, though its updates
differ much ("no hair"), and that S_c grows like an area law with a logarithm. Is the first more than that updates are small, and the
second more than what attention has untrained?

Command. `python -m experiments.no_hair`, with the options and the runs of `artificial_entanglement`.

Time. Two and a half minutes of processor time with MiniLM where the runs are there; for their training see `artificial_entanglement`.

Expected. For certain: uniform attention has S_c = 0, and attention to oneself ln T. Causal uniform attention grows as ln ln T, and independent
Gaussian logits as ln T, with nothing learned. From a pilot on made-up sentences: adapting moves S_c by 0.06 to 0.2, more in full than by factors; random
updates of the same norm move it by 0.02 at most; between ranks of LoRA it differs no more than between seeds. The untrained model's S_c grows with ln T with a slope
of 0.2 to 0.4, and adapting changes that little. "No hair" fails here if R, the spread of S_c between adaptations over that between seeds, is
not below R of the updates' own S(D), or if S_c differs between adaptations beyond seeds; and it says nothing if random updates leave S_c as well.

S_c is the entropy of the squared singular values of a head's attention matrix over one text, padding cut off; means are over layers, heads and
test items. R compares means over seeds within each context; without any effect it is 1 / sqrt(seeds) in the mean. Its interval is that of F,
for normal numbers. "Same norm": a Gaussian update of the same rank, in each layer with the trained one's norm. Writes into the folder:
no_hair.png, .svg, .pdf, .csv and no_hair.json.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from experiments.shared.adaptation_runs import adaptation_runs, add_options, arm_name, t_interval
from experiments.shared.command import add_place, local_folder, run_experiment, write_json
from experiments.shared.figures import points
from ncsim.config.tasks import context_names
from ncsim.formatting import counted, no_more, table
from ncsim.report.figures import BLACK, BLUE, GREEN, ORANGE, SKY, VERMILLION, new_figure, save_figure
from ncsim.statistics.intervals import Estimate

#: Texts whose attention is looked at, and those that are cut to every length.
TEXTS, LONG_TEXTS = 16, 4
LONGEST = 512
CONTEXTS = context_names()
#: Of a slope that no text enters.
EXACT = "exact"


class Adapted(NamedTuple):
    """One adapter: what its attention and its updates have."""

    adaptation: str
    seed: int
    context: int
    accuracy: float  # on training pairs, both heads
    attention: float  # S_c
    update: float  # S(D), mean over layers and targets
    same_norm: float  # S_c with a random update of the same norm
    ten_times: float  # S_c with ten times the update


class Ratio(NamedTuple):
    """R with its interval, and the p-value of no difference between adaptations."""

    r: Estimate
    p: float


class Growth(NamedTuple):
    """S_c by number of tokens, a mean over texts, its slope B in ln T, and what B is more than that of the model as it was, text by text."""

    name: str
    entropy: list[float]
    slope: Estimate
    change: Estimate | None = None


def ratio(values: np.ndarray) -> Ratio:
    """Spread between adaptations over spread between seeds, of values [adaptations, seeds, contexts]."""
    adaptations, seeds, contexts = values.shape
    between = values.mean(axis=1).var(axis=0, ddof=1).mean()
    within = values.var(axis=1, ddof=1).mean()
    r, law = math.sqrt(between / within), stats.f((adaptations - 1) * contexts, adaptations * (seeds - 1) * contexts)
    low, high = (r / math.sqrt(law.ppf(q)) for q in (0.975, 0.025))
    return Ratio(Estimate(r, low, high, "F"), float(law.sf(seeds * between / within)))


class Model:
    """A backbone with the texts that are asked of it."""

    def __init__(self, run: Any, source_dir: str | None, cache_dir: str | None) -> None:
        from ncsim.text.data.prepare import prepare_suite
        from ncsim.text.model.checkpoint import load_backbone

        config = run.config
        self.bert, self.backbone = load_backbone(config.model)
        made = {
            "tokenizer": config.model, "length": config.length, "vocab_size": self.bert.vocab_size,
            "max_positions": self.bert.max_positions, "seed": config.root_seed, "source_dir": source_dir, "cache_dir": cache_dir,
        }  # fmt: skip
        items = prepare_suite(config.suite, items=config.items, test_items=config.test_items, **made).tasks
        each = max(TEXTS // 4, 1)
        self.batch = tuple(
            np.concatenate([getattr(items[task]["test"], name)[:each] for task in ("A1", "A2", "B1", "B2")]).astype(
                np.int32
            )
            for name in ("ids", "mask", "types")
        )
        many = prepare_suite(config.suite, items=300 if source_dir else 128, test_items=config.test_items, **made).tasks
        self.stream = _stream(many)
        self.ends = int(self.batch[0][0, 0]), int(self.batch[0][0, self.batch[1][0].sum() - 1])

    def matrices(self, adapter: Any, scale: float, batch: Any = None) -> np.ndarray:
        """Attention [B, L, H, T, T] with an adapter or None."""
        from ncsim.text.model.attention import attention_matrices

        return np.asarray(attention_matrices(self.bert, self.backbone, adapter, scale, *(batch or self.batch)))

    def entropy(self, adapter: Any, scale: float = 1.0) -> float:
        """S_c, a mean over texts, layers and heads."""
        from ncsim.text.attention_entropies import attention_entropy

        found = self.matrices(adapter, scale)
        return float(np.mean([attention_entropy(one, mask) for one, mask in zip(found, self.batch[1], strict=True)]))

    def lengths(self) -> list[int]:
        """Numbers of tokens, twice as many each, as far as positions and texts go."""
        most = min(LONGEST, self.bert.max_positions, len(self.stream) // 2 + 2)
        return [2**n for n in range(3, int(math.log2(most)) + 1)]

    def long_texts(self, tokens: int) -> tuple[np.ndarray, ...]:
        """The same texts cut to a number of tokens, ends included."""
        longest = self.lengths()[-1] - 2
        count = min(LONG_TEXTS, len(self.stream) // longest)
        rows = [[self.ends[0], *self.stream[n * longest :][: tokens - 2], self.ends[1]] for n in range(count)]
        ids = np.array(rows, np.int32)
        return ids, np.ones_like(ids), np.zeros_like(ids)


def _stream(tasks: Any) -> list[int]:
    """Tokens of the first task's items, one after another, without their ends."""
    found: list[int] = []
    for ids, mask in zip(tasks["A1"]["train"].ids, tasks["A1"]["train"].mask, strict=True):
        found += ids[1 : mask.sum() - 1].tolist()
    return found


def trees(lora: Any) -> Iterator[tuple[Any, str]]:
    """Every product of an adapter's tree: the dictionary that holds its arrays."""
    for block in lora["layers"].values():
        yield from ((tree, name) for name, tree in block.items())


def random_like(lora: Any, rank: int, seed: int) -> Any:
    """A Gaussian update of the same rank, with the norm of the trained one in each layer and target."""
    random = np.random.default_rng(seed)

    def like(tree: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        trained = tree["dense"] if "dense" in tree else tree["a"] @ tree["b"]
        norm = np.linalg.norm(trained, axis=(1, 2), keepdims=True)
        if "dense" in tree:
            drawn = random.standard_normal(trained.shape)
            return {"dense": (drawn / np.linalg.norm(drawn, axis=(1, 2), keepdims=True) * norm).astype(np.float32)}
        a, b = (np.zeros_like(tree[leaf], np.float64) for leaf in ("a", "b"))
        a[..., :rank] = random.standard_normal(a[..., :rank].shape)
        b[:, :rank] = random.standard_normal(b[:, :rank].shape)
        b *= norm / np.linalg.norm(a @ b, axis=(1, 2), keepdims=True)
        return {"a": a.astype(np.float32), "b": b.astype(np.float32)}

    return {
        "layers": {block: {name: like(tree) for name, tree in own.items()} for block, own in lora["layers"].items()}
    }


def adapted(model: Model, runs: dict[str, Any], width: int) -> tuple[list[Adapted], dict[str, tuple[Any, float]]]:
    """Every adapter in numbers; and of each adaptation the first one by itself, with its scale."""
    from ncsim.text.entanglement import entanglement_profile
    from ncsim.text.model.adapter_files import load_adapter
    from ncsim.text.model.lora import pad_adapter

    rows: list[Adapted] = []
    kept: dict[str, tuple[Any, float]] = {}
    for run in runs.values():
        right = _accuracy(run.counts[:, :, -1, 0])
        for r, rank in enumerate(run.config.ranks):
            for seed in range(run.config.seeds):
                for context, name in enumerate(CONTEXTS):
                    stored = load_adapter(run.path / f"adapters/rank={rank}/seed={seed}/context={name}", model.bert)
                    adapter = {"lora": pad_adapter({"lora": stored.adapter["lora"]}, width)["lora"]}
                    adapter["lora"] = _numpy(adapter["lora"])
                    each = [entanglement_profile(*_leaves(tree)).centre.mean() for tree, _ in trees(adapter["lora"])]
                    drawn = {"lora": random_like(adapter["lora"], rank, seed=4 * seed + context)}
                    kept.setdefault(arm_name(run, rank), (adapter, stored.scale))
                    rows.append(
                        Adapted(
                            arm_name(run, rank), seed, context, float(right[r, seed, context]), model.entropy(adapter, stored.scale),
                            float(np.mean(each)), model.entropy(drawn, stored.scale), model.entropy(adapter, 10 * stored.scale),
                        )
                    )  # fmt: skip
    return rows, kept


def _numpy(tree: Any) -> Any:
    return {name: _numpy(each) if isinstance(each, dict) else np.asarray(each) for name, each in tree.items()}


def _leaves(tree: dict[str, np.ndarray]) -> list[np.ndarray]:
    return [tree[leaf] for leaf in ("dense", "a", "b") if leaf in tree]


def _accuracy(counts: np.ndarray) -> np.ndarray:
    """Share of right answers of both heads by context, from counts [..., i, j, a, b]: [..., 4]."""
    right = counts[..., 1, :].sum(axis=-1) + counts[..., :, 1].sum(axis=-1)
    return np.asarray((right / (2 * counts.sum(axis=(-1, -2)))).reshape(*counts.shape[:-4], 4))


def growths(model: Model, kept: dict[str, tuple[Any, float]]) -> tuple[list[int], list[Growth]]:
    """S_c by number of tokens: of the backbone, of some adaptations, and of four laws without learning."""
    from ncsim.text.attention_entropies import attention_entropy, causal_uniform, random_attention_law, shuffled_rows

    lengths = model.lengths()
    plain = [model.matrices(None, 1.0, model.long_texts(t)) for t in lengths]

    slopes_of: dict[str, np.ndarray] = {}

    def of(name: str, matrices: Sequence[np.ndarray], change: Callable[[Any], Any] = lambda x: x) -> Growth:
        return by_text(name, [[attention_entropy(change(text)).mean() for text in each] for each in matrices])

    def by_text(name: str, values: Any) -> Growth:
        texts = np.array(values)  # [lengths, texts]
        slopes = slopes_of[name] = np.polyfit(np.log(lengths), texts, 1)[0]
        more = t_interval(slopes - slopes_of["not adapted"])
        return Growth(name, texts.mean(axis=1).tolist(), t_interval(slopes), more)

    def law(name: str, values: Any) -> Growth:
        slope = float(np.polyfit(np.log(lengths), values, 1)[0])
        return Growth(name, list(map(float, values)), Estimate(slope, slope, slope, EXACT))

    found = [of("not adapted", plain), of("rows shuffled", plain, shuffled_rows)]
    for name in dict.fromkeys([*list(kept)[-3:-1], *list(kept)[-1:]]):
        adapter, scale = kept[name]
        found.append(of(name, [model.matrices(adapter, scale, model.long_texts(t)) for t in lengths]))
    # The spread of the logits of each query, from the weights that they became.
    with np.errstate(divide="ignore"):
        spreads = [np.log(np.maximum(each, 1e-30)).std(axis=-1).mean(axis=-1) for each in plain]
    laws = [
        [np.mean([random_attention_law(t, s) for s in text.ravel()]) for text in each]
        for t, each in zip(lengths, spreads, strict=True)
    ]
    found += [
        by_text("Gaussian logits", laws),
        law("causal uniform", [attention_entropy(causal_uniform(t)) for t in lengths]),
    ]
    return lengths, [*found, law("uniform", [0.0] * len(lengths)), law("itself alone", np.log(lengths))]


def ratios(rows: Sequence[Adapted]) -> dict[str, dict[str, Ratio]]:
    """R of S_c and of S(D), over all adaptations and over LoRA's ranks; none of fewer than two."""
    names = list(dict.fromkeys(row.adaptation for row in rows))
    sets = {"all adaptations": names, "LoRA's ranks": [name for name in names if name.startswith("LoRA")]}
    found = {}
    for title, chosen in sets.items():
        if len(chosen) > 1:
            found[title] = {what: ratio(_cube(rows, chosen, what)) for what in ("attention", "update")}
    return found


def _cube(rows: Sequence[Adapted], names: Sequence[str], what: str) -> np.ndarray:
    values = {(row.adaptation, row.seed, row.context): getattr(row, what) for row in rows}
    seeds = sorted({row.seed for row in rows})
    return np.array([[[values[name, seed, c] for c in range(4)] for seed in seeds] for name in names])


def conclusion(
    rows: Sequence[Adapted], base: float, found: dict[str, dict[str, Ratio]], along: Sequence[Growth]
) -> list[str]:
    """What the numbers bear."""
    trained, random = (
        t_interval([abs(getattr(row, what) - base) for row in rows], 0.0) for what in ("attention", "same_norm")
    )
    said = [
        f"Learning or size: adapting moves S_c from {base:.3f} by {trained} in the mean, a random update of the same norm by {random}. "
        + ("So it is not size alone." if trained.low > random.high else "Learning and size are not told apart.")
    ]
    worst = min(row.accuracy for row in rows)
    said.append(
        f"Training accuracy is at least {no_more(worst, '.3f')} of every adapter, {np.mean([row.accuracy for row in rows]):.3f} in the mean"
        + ("." if worst == 1 else ": not equal everywhere, which S_c may show, too.")
    )
    if not found:
        said.append("No hair: nothing is said of one adaptation alone, since R is between adaptations.")
    for title, each in found.items():
        s, d = each["attention"], each["update"]
        below = "below" if s.r.high < d.r.low else "not shown to be below"
        differs = "differs" if s.p < 0.05 else "is not shown to differ"
        said.append(
            f"No hair, {title}: R of S_c is {s.r}, {below} that of S(D), {d.r}; S_c {differs} between adaptations beyond seeds (p = {s.p:.2g})."
        )
    by = {growth.name: growth for growth in along}
    plain = by.pop("not adapted")
    laws = ("rows shuffled", "Gaussian logits", "causal uniform", "uniform", "itself alone")
    others = [growth for name, growth in by.items() if name not in laws]
    same = [growth for growth in others if growth.change is not None and growth.change.low <= 0 <= growth.change.high]
    changes = "; ".join(f"{growth.name} {growth.change}" for growth in others)
    said.append(
        f"Growth: S_c has slope {plain.slope} in ln T before adapting. Changes of it, text by text: {changes}; {len(same)} of {len(others)} hold 0. "
        f"Without any structure: rows shuffled {by['rows shuffled'].slope.value:.3f}, Gaussian logits {by['Gaussian logits'].slope.value:.3f}, causal "
        f"uniform {by['causal uniform'].slope.value:.3f}. A slope of 0 is an area law in tokens, 1 the most."
    )
    return said


def printed(rows: Sequence[Adapted], lengths: Sequence[int], along: Sequence[Growth]) -> list[str]:
    """A table by adaptation and one by length."""
    cells = []
    for name in dict.fromkeys(row.adaptation for row in rows):
        own = [row for row in rows if row.adaptation == name]
        columns = ("attention", "same_norm", "ten_times", "update")
        cells.append(
            [
                name,
                str(len(own)),
                f"{np.mean([row.accuracy for row in own]):.3f}",
                f"{min(row.accuracy for row in own):.3f}",
            ]
        )
        cells[-1] += [str(t_interval([getattr(row, column) for row in own], 0.0)) for column in columns]
    head = ["adaptation", "adapters", "accuracy", "lowest", "S_c", "S_c, random, same norm", "S_c, ten times", "S(D)"]
    grown = [
        [each.name, *(f"{s:.3f}" for s in each.entropy), f"{b.value:.3f}" if b.method == EXACT else str(b)]
        for each in along
        for b in [each.slope]
    ]
    return [
        *table(head, cells, indent=""),
        "",
        *table(["S_c by tokens", *map(str, lengths), "slope in ln T"], grown, indent=""),
    ]


def draw(
    rows: Sequence[Adapted],
    base: float,
    found: dict[str, dict[str, Ratio]],
    lengths: Sequence[int],
    along: Sequence[Growth],
    out: Path,
) -> list[Path]:
    """S_c by adaptation, R, and S_c against ln T."""
    names = list(dict.fromkeys(row.adaptation for row in rows))
    kinds = (
        ("attention", "trained", BLUE, "o"),
        ("same_norm", "random, same norm", ORANGE, "x"),
        ("ten_times", "ten times", GREEN, "^"),
    )
    numbers: list[list[Any]] = []
    with new_figure(13.5, 4.6) as figure:
        left, middle, right = figure.subplots(1, 3, width_ratios=(1.3, 0.9, 1.3))
        for place, (what, label, color, mark) in enumerate(kinds):
            at = [names.index(row.adaptation) + 0.22 * (place - 1) for row in rows]
            values = [getattr(row, what) for row in rows]
            left.plot(at, values, mark, color=color, markersize=4, linestyle="none", alpha=0.8, label=label)
            numbers += [
                [row.adaptation, what, f"{row.seed} {CONTEXTS[row.context]}", v, "", ""]
                for row, v in zip(rows, values, strict=True)
            ]
        left.axhline(base, color="0.5", linestyle="--", linewidth=1, label="the model as it was")
        numbers.append(["the model as it was", "S_c", "", base, "", ""])
        left.set_xticks(range(len(names)), [name.replace(", ", "\n") for name in names], fontsize=8)
        left.set_title("attention's entropy S_c, nats (a mark an adapter)")
        left.set_ylim(bottom=0)
        for place, (what, label, color) in enumerate((("attention", "S_c", BLUE), ("update", "S(D)", VERMILLION))):
            each = [pair[what].r for pair in found.values()]
            points(
                middle, np.arange(len(each)) + 0.16 * (2 * place - 1), each, color=color, fmt="os"[place], label=label
            )
            numbers += [[title, f"R of {label}", "", *pair[what].r[:3]] for title, pair in found.items()]
        seeds = len({row.seed for row in rows})
        middle.axhline(seeds**-0.5, color="0.5", linestyle=":", linewidth=1, label="no effect")
        middle.set_visible(bool(found))
        middle.set_xlim(-0.5, max(len(found), 1) - 0.5)
        middle.set_xticks(range(len(found)), list(found))
        middle.set_yscale("log")
        middle.set_title("R, between adaptations / between seeds")
        middle.legend(fontsize=8)
        styles = {
            "not adapted": (BLACK, "o", "-"),
            "rows shuffled": (ORANGE, "x", "--"),
            "Gaussian logits": ("0.4", "", ":"),
        }
        styles |= {"causal uniform": (GREEN, "", "-."), "uniform": ("0.6", "", "-"), "itself alone": ("0.6", "", "--")}
        spare = iter((BLUE, VERMILLION, SKY))
        for growth in along:
            color, mark, line = styles.get(growth.name) or (next(spare), "s", "-")
            first = growth.name == "not adapted"
            right.plot(
                lengths, growth.entropy, line, color=color, marker=mark, markersize=8 if first else 4, linewidth=1.2,
                fillstyle="none" if first else "full", zorder=3 if first else 2, label=growth.name,
            )  # fmt: skip
            numbers += [[growth.name, "S_c", t, s, "", ""] for t, s in zip(lengths, growth.entropy, strict=True)]
        right.set_xscale("log", base=2)
        right.set_xlabel("tokens T")
        right.set_title("S_c by tokens, nats")
        handles, labels = (
            a + b for a, b in zip(left.get_legend_handles_labels(), right.get_legend_handles_labels(), strict=True)
        )
        shown = dict(zip(labels[::-1], handles[::-1], strict=True))
        figure.legend(list(shown.values())[::-1], list(shown)[::-1], loc="outside lower center", ncols=6, fontsize=8)
        return save_figure(figure, out / "no_hair", ["of", "quantity", "at", "value", "low", "high"], numbers)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, print the tables and the verdict, write the figure."""
    run_experiment(__doc__, _options, _run, arguments)


def _options(parser: argparse.ArgumentParser) -> None:
    add_options(parser)
    add_place(parser, "runs/no-hair", "where figure and numbers go (default: {})", devices=None)


def _run(parsed: argparse.Namespace) -> None:
    out = local_folder("--out", parsed.out)
    runs = adaptation_runs(parsed)
    model = Model(next(iter(runs.values())), parsed.source_dir, parsed.cache_dir)
    width = max(max(run.config.ranks) for run in runs.values())
    base = model.entropy(None)
    rows, kept = adapted(model, runs, width)
    lengths, along = growths(model, kept)
    found = ratios(rows)
    print(
        f"Attention after {counted(parsed.epochs, 'epoch')} of {counted(parsed.items, 'pair')}; S_c of the model that is not adapted: {base:.3f}\n"
    )
    print("\n".join(printed(rows, lengths, along)))
    said = conclusion(rows, base, found, along)
    print("\n" + "\n".join(said))
    draw(rows, base, found, lengths, along, out)
    numbers = {
        "epochs": parsed.epochs,
        "items": parsed.items,
        "seeds": parsed.seeds,
        "not_adapted": base,
        "tokens": lengths,
    }
    write_json(out / "no_hair.json", numbers | {"rows": rows, "ratios": found, "growth": along, "conclusion": said})


if __name__ == "__main__":
    main()
