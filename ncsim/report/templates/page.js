"use strict";
// Choosers, sorting and finding. Without JavaScript the page shows the rest; texts go in as text, never as HTML.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const make = (name, attributes = {}, text = null, parent = null) => {
    const svg = ["svg", "g", "rect", "line", "path", "circle", "text", "title"].includes(name);
    const element = svg ? document.createElementNS(SVG, name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== null) element.textContent = text;
    if (parent) parent.append(element);
    return element;
  };
  // As tables have it, of what `_short` of page.py chose.
  const small = (value) => value.toExponential(0).replace(/e-(\d)$/, "e-0$1");
  const decimals = (value) => (value >= 0.9995 && value < 1 ? Number((1 - value).toExponential(0).split("e-")[1]) : 3);
  const shown = (value) => (value === null ? "no number" : Math.abs(value) < 0.0005 && value ? small(value) : value.toFixed(decimals(value)));
  const interval = ([value, low, high]) => `${shown(value)} [${shown(low)}, ${shown(high)}]`;
  for (const form of document.querySelectorAll("form.choosers")) form.hidden = false;

  // ------------------------------------------------------------------------------------------------ the table of all
  const table = document.getElementById("table");
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells], rows = [...body.rows];
  const names = heads.map((head) => head.textContent);
  const protocolColumn = names.indexOf(document.getElementById("row-protocol").dataset.column);
  const words = new Map(rows.map((row) => [row, [...row.cells].map((cell) => cell.textContent.toLowerCase())]));
  const columns = names.map((name) => `${name.toLowerCase()}=`);
  // A number before its interval, or a text.
  const sortable = (cell) => {
    const text = cell.textContent.trim(), number = parseFloat(text);
    return /^[-+]?[.\d]/.test(text) && !Number.isNaN(number) ? number : text;
  };
  const compare = (a, b) => {
    return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
  };
  heads.forEach((head, column) => {
    const button = make("button", { type: "button" }, head.textContent);
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const keyed = rows.map((row) => [sortable(row.cells[column]), row]);
      // Cells without a number stay last either way.
      keyed.sort(([a], [b]) => (a === "") - (b === "") || (down ? -1 : 1) * compare(a, b));
      body.append(...keyed.map(([, row]) => row));
    });
  });
  const find = document.getElementById("find"), rowProtocol = document.getElementById("row-protocol");
  const filter = () => {
    const asked = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of rows) {
      const cells = words.get(row);
      const right = !rowProtocol.value || row.cells[protocolColumn].textContent === rowProtocol.value;
      // name=value asks for the whole value, other words for a part of any, and not of the headings, which all rows have.
      const has = (word) => cells.some((cell, n) => (word.includes("=") ? columns[n] + cell === word : cell.includes(word)));
      row.hidden = !right || !asked.every(has);
      count += !row.hidden;
    }
    document.getElementById("found").textContent = `${count} of ${rows.length} rows`;
  };
  find.addEventListener("input", filter);
  rowProtocol.addEventListener("change", filter);

  // --------------------------------------------------------------------------------------------------------- choosers
  const source = document.getElementById("data");
  const data = source ? JSON.parse(source.textContent) : null;
  const chooser = (form, id, label, options) => {
    const select = make("select", { id }, null, make("label", {}, `${label} `, form));
    options.forEach((text, value) => make("option", { value }, text, select));
    return select;
  };
  const redrawn = [];
  const drawing = (place, draw) => {
    const form = place.querySelector("form"), drawn = place.querySelector(".drawn"), said = place.querySelector(".said");
    const again = () => {
      drawn.replaceChildren();
      said.textContent = draw(drawn);
    };
    form.addEventListener("change", again);
    redrawn.push(again);
  };
  const frame = (place, low, high, label, height) => {
    const width = Math.max(280, Math.min(place.clientWidth || 280, 860)), left = 52, right = 14, top = 12, bottom = 46;
    const svg = make("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, null, place);
    const y = (value) => height - bottom - ((value - low) / (high - low || 1)) * (height - bottom - top);
    make("line", { class: "axis", x1: left, x2: left, y1: top, y2: height - bottom }, null, svg);
    make("line", { class: "axis", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom }, null, svg);
    const rough = (high - low || 1) / 4, power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((each) => each * power >= rough);
    for (let n = Math.ceil(low / step); n * step <= high; n += 1) {
      make("line", { class: "tick", x1: left - 4, x2: left, y1: y(n * step), y2: y(n * step) }, null, svg);
      make("text", { x: left - 7, y: y(n * step) + 4, "text-anchor": "end" }, Number((n * step).toPrecision(3)), svg);
    }
    return { svg, width, height, left, right, top, bottom, y };
  };

  const law = () => {
    const place = document.getElementById("law"), form = place.querySelector("form");
    const there = data.cells.filter((cell) => cell.laws);
    if (!there.length) {  // of many cells the first ones alone have their laws here
      place.querySelector(".said").textContent = "None of the cells with a card has a law.";
      return;
    }
    const cell = chooser(form, "law-cell", "Cell", there.map((each) => each.label));
    const protocol = chooser(form, "law-protocol", "Protocol", data.protocols);
    drawing(place, (drawn) => {
      const { rows: count, laws, label, numbers } = there[cell.value];
      const [first, units] = laws[protocol.value];
      const probabilities = units.map((each) => each * data.unit), most = Math.max(...probabilities, data.unit);
      const name = `Law of S of ${label} under ${data.protocols[protocol.value]}`;
      const { svg, width, height, left, right, top, bottom, y } = frame(drawn, 0, most, name, 300);
      const s = (n) => -4 + (2 * n) / count;
      const low = Math.min(s(first) - 0.2, 0), high = Math.max(s(first + units.length - 1) + 0.2, 3);
      const x = (value) => left + ((value - low) / (high - low)) * (width - left - right);
      const wide = Math.max(1, 0.8 * (x(2 / count) - x(0)));
      probabilities.forEach((p, n) => {
        if (!p) return;
        const bar = make("rect", { class: "bar", x: x(s(first + n)) - wide / 2, y: y(p), width: wide, height: y(0) - y(p) }, null, svg);
        make("title", {}, `S = ${s(first + n)}: ${p.toPrecision(3)}`, bar);
      });
      for (let tick = Math.ceil(low); tick <= high; tick += 1) {
        make("line", { class: "tick", x1: x(tick), x2: x(tick), y1: height - bottom, y2: height - bottom + 4 }, null, svg);
        make("text", { x: x(tick), y: height - bottom + 18, "text-anchor": "middle" }, tick, svg);
      }
      for (const [bound, kind] of [[2, "classical"], [Math.SQRT2 * 2, "quantum"]])
        make("line", { class: kind, x1: x(bound), x2: x(bound), y1: top, y2: height - bottom }, null, svg);
      make("text", { x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, "S", svg);
      return `Probability of each S. Mean ${interval(numbers[0][protocol.value])}, P(S > 2) ${interval(numbers[1][protocol.value])}. ` +
        "Dashed: the classical bound 2. Dotted: Tsirelson’s bound 2.828.";
    });
  };

  const map = () => {
    const place = document.getElementById("map");
    if (!place) return;
    const form = place.querySelector("form"), axes = data.axes, all = axes.map((axis) => axis.name);
    const metric = chooser(form, "map-metric", "Show", data.metrics);
    const protocol = chooser(form, "map-protocol", "Protocol", data.protocols);
    const across = chooser(form, "map-across", "Across", all);
    const down = chooser(form, "map-down", "Down", [...all, "nothing: lines"]);
    down.value = axes.length > 1 ? 1 : axes.length;
    const at = axes.map((axis, n) => chooser(form, `map-at-${n}`, axis.name, axis.values));
    const values = (cell) => cell && cell.numbers && cell.numbers[metric.value][metric.value < data.of_protocol ? protocol.value : 0];
    drawing(place, (drawn) => {
      const column = Number(across.value), row = down.value === across.value ? axes.length : Number(down.value);
      protocol.disabled = Number(metric.value) >= data.of_protocol;
      at.forEach((select, n) => { select.parentElement.hidden = n === column || n === row; });
      const rest = at.map((select) => Number(select.value));
      const cellAt = (i, j) => data.cells.find((cell) => cell.at.every((place, n) => place === (n === column ? i : n === row ? j : rest[n])));
      const name = data.metrics[metric.value], under = protocol.disabled ? "" : ` under ${data.protocols[protocol.value]}`;
      const fixed = axes.map((axis, n) => (n === column || n === row ? null : `${axis.name}=${axis.values[rest[n]]}`)).filter(Boolean);
      const title = `${name}${under}${fixed.length ? `, at ${fixed.join(", ")}` : ""}`;
      const found = axes[column].values.map((_, i) => (axes[row] ? axes[row].values : [0]).map((_, j) => values(cellAt(i, j)) || [null, null, null]));
      const numbers = found.flat().map(([value]) => value).filter((value) => value !== null);
      if (!numbers.length) return `${title}: no number.`;
      const low = Math.min(...numbers), high = Math.max(...numbers);
      if (row < axes.length) heat(drawn, title, axes[column], axes[row], found, low, high);
      else lines(drawn, title, axes[column], found.map(([each]) => each));
      return row < axes.length ? `${title}. Strongest colour at ${shown(high)}, none at ${shown(low)}.` : `${title}. Bars are 95 % intervals.`;
    });
  };
  const heat = (place, title, across, down, found, low, high) => {
    const drawn = make("table", {}, null, place);
    make("caption", {}, title, drawn);
    const head = make("tr", {}, null, make("thead", {}, null, drawn));
    make("th", { scope: "col" }, `${down.name} ↓  ${across.name} →`, head);
    for (const value of across.values) make("th", { scope: "col" }, value, head);
    const rows = make("tbody", {}, null, drawn);
    down.values.forEach((value, j) => {
      const line = make("tr", {}, null, rows);
      make("th", { scope: "row" }, value, line);
      across.values.forEach((_, i) => {
        const each = found[i][j], share = each[0] === null || high === low ? 0 : (each[0] - low) / (high - low);
        const cell = make("td", { title: each[0] === null ? "no number" : interval(each) }, each[0] === null ? "–" : shown(each[0]), line);
        cell.style.setProperty("--share", `${Math.round(100 * share)}%`);
      });
    });
  };
  const lines = (place, title, across, found) => {
    const every = found.flat().filter((value) => value !== null), low = Math.min(...every), high = Math.max(...every);
    const spare = 0.05 * (high - low || 1);
    const { svg, width, height, left, right, bottom, y } = frame(place, low - spare, high + spare, title, 300);
    const x = (n) => left + ((n + 0.5) / found.length) * (width - left - right);
    const there = found.map((each, n) => [n, each]).filter(([, each]) => each[0] !== null);
    make("path", { class: "line", d: there.map(([n, [value]], i) => `${i ? "L" : "M"}${x(n)} ${y(value)}`).join("") }, null, svg);
    for (const [n, each] of there) {
      make("line", { class: "reach", x1: x(n), x2: x(n), y1: y(each[1] ?? each[0]), y2: y(each[2] ?? each[0]) }, null, svg);
      make("title", {}, `${across.values[n]}: ${interval(each)}`, make("circle", { class: "point", cx: x(n), cy: y(each[0]), r: 4 }, null, svg));
    }
    const step = Math.ceil((found.length * 60) / (width - left - right));
    across.values.forEach((value, n) => {
      if (n % step === 0) make("text", { x: x(n), y: height - bottom + 18, "text-anchor": "middle" }, value.length > 10 ? `${value.slice(0, 9)}…` : value, svg);
    });
    make("text", { x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, across.name, svg);
  };

  if (data) {
    map();
    law();
  }
  // A page that is written anew while a run trains keeps what the reader chose.
  if (document.querySelector('meta[http-equiv="refresh"]')) {
    const key = `ncsim ${location.pathname}`, kept = [...document.querySelectorAll("select, input")];
    try {
      const before = JSON.parse(sessionStorage.getItem(key) || "{}");
      for (const each of kept) {
        const allowed = each.options ? [...each.options].map((option) => option.value) : [before[each.id]];
        if (each.id in before && allowed.includes(before[each.id])) each.value = before[each.id];
      }
      addEventListener("pagehide", () => sessionStorage.setItem(key, JSON.stringify(Object.fromEntries(kept.map((each) => [each.id, each.value])))));
    } catch { /* a browser that keeps nothing for files */ }
  }
  filter();
  for (const draw of redrawn) draw();
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth !== width) for (const draw of redrawn) draw();
    width = innerWidth;
  });
})();
