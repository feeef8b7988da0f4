// Elements, numbers in words, and the charts: inline SVG with a text alternative. Values are set as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.flat(3).filter((child) => child != null && child !== false));
  return node;
}
export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

// -- numbers

export const count = (n) => Number(n).toLocaleString("en");
export const percent = (x) => x == null ? "–" : `${x === 0 || x === 1 ? x * 100 : (x * 100).toFixed(x < 0.001 ? 3 : x < 0.0995 ? 2 : 1)} %`;
export function seconds(x) {
  if (x == null) return "–";
  if (x < 0.00995) return `${(x * 1000).toFixed(1)} ms`;
  return x < 0.9995 ? `${Math.round(x * 1000)} ms` : `${x.toFixed(x < 10 ? 2 : 1)} s`;
}
export function usd(x) {
  if (!x || Math.abs(x) < 1e-6) return "$0";
  const size = Math.abs(x);
  const told = size >= 100 ? Math.round(size).toLocaleString("en") : size >= 1 ? size.toFixed(2) : size.toFixed(Math.min(8, 2 - Math.floor(Math.log10(size))));
  return `${x < 0 ? "−" : ""}$${told}`;
}
export const clock = (unix) => new Date(unix * 1000).toLocaleTimeString("en-GB");

// -- charts

const picture = (width, height, title, ...children) =>
  s("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": title }, s("title", {}, title), ...children);
const text = (x, y, what, more) => s("text", { x, y, ...more }, what);

const band = (x0, y0, x1, y1, thick, kind) => {
  const mid = (x0 + x1) / 2;
  const d = `M${x0},${y0} C${mid},${y0} ${mid},${y1} ${x1},${y1} V${y1 + thick} C${mid},${y1 + thick} ${mid},${y0 + thick} ${x0},${y0 + thick} Z`;
  return s("path", { d, class: kind });
};

// The stream comes from the left. Small models are the channel through the weir; what spills over it, and what is led around it, is the
// large model's.
export function flow(width, told) {
  const parts = [told.accepted + told.degraded, told.escalated, told.direct + told.straight];
  const all = parts.reduce((a, b) => a + b, 0);
  if (!all) return h("p", { class: "quiet" }, "Nothing was answered in the last 15 minutes.");
  const high = 118, top = 26, gap = 48, height = top + high + gap + 18;
  const [a, e, d] = parts.map((part) => (part ? Math.max(1.5, (part / all) * high) : 0));
  const left = width < 480 ? 66 : 92, right = width - (width < 480 ? 116 : 172), wall = left + (right - left) * 0.45;
  const river = top + a + gap;
  const share = (part) => percent(part / all);
  const title = `Of ${count(all)} answered requests small models answered ${share(parts[0])}; ${share(parts[1])} spilled to a large model after a small one was asked, and ${share(parts[2])} went straight to it.`;
  const says = [
    text(left - 12, top + (a + e + d) / 2, count(all), { class: "strong", "text-anchor": "end" }),
    text(left - 12, top + (a + e + d) / 2 + 16, width < 480 ? "asked" : "requests", { "text-anchor": "end" }),
  ];
  if (a) says.push(text(right + 10, top + a / 2 + 1, share(parts[0]), { class: "strong" }), text(right + 10, top + a / 2 + 17, "small models"));
  if (e + d) {
    const y = river + (e + d) / 2;
    says.push(text(right + 10, y + 1, percent((parts[1] + parts[2]) / all), { class: "strong" }), text(right + 10, y + 17, "large model"));
  }
  if (e && width >= 480) says.push(text(right - 4, top + a + 17, `spilled ${share(parts[1])}`, { "text-anchor": "end" }));
  if (d && width >= 480) says.push(text(left + 6, Math.min(height - 4, top + a + e + d + 26), `direct ${share(parts[2])}`));
  return picture(width, height, title,
    a > 0 && band(left, top, right, top, a, "flow-small"),
    e > 0 && s("rect", { x: left, y: top + a, width: wall - left, height: e, class: "flow-spill" }),
    e > 0 && band(wall, top + a, right, river, e, "flow-spill"),
    d > 0 && band(left, top + a + e, right, river + e, d, "flow-direct"),
    a + e > 0 && s("line", { x1: wall, x2: wall, y1: top - 8, y2: top + a + Math.max(e * 0.25, 2), class: "weir" }),
    a + e > 0 && text(wall, top - 14, "checks", { "text-anchor": "middle" }),
    says);
}

function nice(top) {
  if (top <= 0) return 1;
  const size = 10 ** Math.floor(Math.log10(top));
  return [1, 2, 2.5, 5, 10].map((step) => step * size).find((step) => step >= top);
}

// Stacked columns over the window. layers: [{kind, values}], one value a column; label: a value of the axis in words.
export function columns(width, layers, label, title) {
  const height = 170, left = 46, low = height - 22, high = low - 12;
  const n = layers[0]?.values.length ?? 0;
  const sums = Array.from({ length: n }, (_, i) => layers.reduce((sum, layer) => sum + layer.values[i], 0));
  const top = nice(Math.max(...sums, 0)), step = (width - left) / n;
  const y = (value) => low - (value / top) * high;
  const paths = layers.map((layer, at) => {
    let d = "";
    layer.values.forEach((value, i) => {
      if (!value) return;
      const under = layers.slice(0, at).reduce((sum, one) => sum + one.values[i], 0);
      const x = left + i * step + 0.5;
      d += `M${x.toFixed(1)},${y(under).toFixed(1)}V${y(under + value).toFixed(1)}h${Math.max(1, step - 1.2).toFixed(1)}V${y(under).toFixed(1)}z`;
    });
    return s("path", { d, class: layer.kind });
  });
  const lines = [0, 0.5, 1].map((part) => [
    s("line", { x1: left, x2: width, y1: y(top * part), y2: y(top * part), class: "axis" }),
    text(left - 8, y(top * part) + 4, label(top * part), { "text-anchor": "end" }),
  ]);
  const times = [15, 10, 5].map((minutes, i) => text(left + ((width - left) * i) / 3, height - 4, `−${minutes} min`));
  return picture(width, height, title, lines, paths, times, text(width, height - 4, "now", { "text-anchor": "end" }));
}

export function range(p50, p95, least, most, llm) {
  const at = (x) => (100 * Math.log(x / least)) / Math.log(most / least);
  const from = at(p50);
  return s("svg", { viewBox: "0 0 100 12", preserveAspectRatio: "none", "aria-hidden": "true" },
    s("line", { x1: 0, x2: 100, y1: 6, y2: 6 }),
    s("rect", { x: from, y: 2.5, width: Math.max(1.2, at(p95) - from), height: 7, rx: 1, class: llm ? "llm" : null }));
}

// When each attempt ran, over the whole time of the request.
export function span(start, length, whole, llm) {
  const at = (x) => Math.min(100, (100 * x) / Math.max(whole, 1e-6));
  return s("svg", { viewBox: "0 0 100 12", preserveAspectRatio: "none", "aria-hidden": "true" },
    s("line", { x1: 0, x2: 100, y1: 6, y2: 6 }),
    s("rect", { x: at(start), y: 2, width: Math.max(1, at(start + length) - at(start)), height: 8, rx: 1, class: llm ? "llm" : null }));
}

export function curve(width, told) {
  const height = 170, left = 46, low = height - 24, high = low - 10;
  const top = nice(Math.max((told.risk ?? 0) * 2.5, (told.bound ?? 0) * 1.6, 0.005));
  const x = (share) => left + share * (width - left - 8), y = (bound) => low - Math.min(1.06, bound / top) * high;
  const points = told.curve.map(([coverage, bound]) => `${x(coverage).toFixed(1)},${y(bound).toFixed(1)}`).join(" ");
  const title = `${told.rung} on ${told.route}: ` + (told.coverage == null
    ? `no threshold keeps the promised ${percent(told.risk)}.`
    : `from probability ${told.threshold} on, ${percent(told.coverage)} of the requests are accepted, with at most ${percent(told.bound)} ${told.bound_of}; promised are ${percent(told.risk)}.`);
  return picture(width, height, title,
    [0, 0.5, 1].map((part) => [
      s("line", { x1: left, x2: width, y1: y(top * part), y2: y(top * part), class: "axis" }),
      text(left - 8, y(top * part) + 4, percent(top * part), { "text-anchor": "end" })]),
    [0, 0.5, 1].map((part) => text(x(part), height - 5, `${part * 100} %`, { "text-anchor": part ? (part === 1 ? "end" : "middle") : "start" })),
    told.risk != null && s("line", { x1: left, x2: width, y1: y(told.risk), y2: y(told.risk), class: "promise" }),
    s("polyline", { points, class: "curve" }),
    told.coverage != null && s("circle", { cx: x(told.coverage), cy: y(told.bound), r: 5, class: "dot" }));
}
