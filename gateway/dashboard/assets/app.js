// The page: follows the feed, draws what it says, opens decisions. State comes from /ui/events; nothing is kept but key and theme.

import { clock, columns, count, curve, flow, h, percent, range, seconds, span, usd } from "./draw.js";

const $ = (id) => document.getElementById(id);
const KEY = "weir-key", THEME = "weir-theme";
const SILENT = 6000; // ms without a byte until the gateway counts as gone: it sends something every second
const GROUP = 3; // buckets to a column
const REASONS = ["low_confidence", "schema", "disagreement", "refused", "truncated", "tool_arguments", "unsupported", "policy", "timeout", "overload", "backend_error", "context_overflow"];
const hue = (reason) => `r${REASONS.includes(reason) ? REASONS.indexOf(reason) : 11}`;
const words = (reason) => reason.replaceAll("_", " ");

let state = null, curvesOf = "", curves = [];

// -- asking

const headers = () => {
  const key = sessionStorage.getItem(KEY);
  return key ? { authorization: `Bearer ${key}` } : {};
};
const ask = (path, more) => fetch(`ui/${path}`, { headers: headers(), cache: "no-store", ...more });
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const shown = () => document.hidden ? new Promise((done) => document.addEventListener("visibilitychange", done, { once: true })).then(shown) : null;

async function follow() {
  for (let tries = 0; ; tries += 1) {
    await shown(); // a tab that nobody sees takes no place at the gateway
    let wait = Math.min(500 * 2 ** tries, 4000);
    const stop = new AbortController(), hidden = () => document.hidden && stop.abort();
    document.addEventListener("visibilitychange", hidden);
    try {
      const answer = await ask("events", { signal: stop.signal });
      if (answer.status === 401 || answer.status === 403) {
        await door(await said(answer), answer.status);
        tries = -1;
        continue;
      }
      if (!answer.ok) {
        lost(await said(answer));
        wait = 5000;
      } else {
        await read(answer.body.getReader(), stop, () => { tries = 0; });
        wait = 500;
        if (!document.hidden) lost();
      }
    } catch {
      if (!document.hidden) lost();
    } finally {
      document.removeEventListener("visibilitychange", hidden);
    }
    await pause(wait);
  }
}

async function read(stream, stop, heard) {
  const decoder = new TextDecoder();
  let rest = "", watch = 0;
  const again = () => { clearTimeout(watch); watch = setTimeout(() => stop.abort(), SILENT); };
  try {
    for (again(); ;) {
      const { done, value } = await stream.read();
      if (done) return;
      again();
      const events = (rest + decoder.decode(value, { stream: true })).split("\n\n");
      rest = events.pop();
      for (const event of events) {
        const data = event.split("\n").find((line) => line.startsWith("data: "));
        if (event.startsWith("event: state") && data) { heard(); live(JSON.parse(data.slice(6))); }
        else if (event.startsWith("event: stopping")) return;
      }
    }
  } finally {
    clearTimeout(watch);
  }
}

async function said(answer) {
  try { return (await answer.json()).error.message; } catch { return `The gateway answered ${answer.status}.`; }
}

// -- the four states of the page: live, lost, empty, refused

function live(told) {
  const first = state === null;
  const again = !first && told.started !== state.started;
  state = told;
  document.body.classList.remove("stale");
  $("notice").hidden = true;
  link("live", again ? "live again, counting anew" : "live");
  $("door").hidden = true;
  $("forget").hidden = !sessionStorage.getItem(KEY);
  const empty = told.ever.requests === 0;
  $("empty").hidden = !empty;
  $("board").hidden = empty;
  $("house").hidden = false;
  $("try").textContent = `curl ${location.origin}/v1/chat/completions \\\n  -H 'content-type: application/json' \\\n  -d '{"model": "weir", "messages": [{"role": "user", "content": "hello"}]}'`;
  draw(first || again);
  if (curvesOf !== told.config) { curvesOf = told.config; loadCurves(); }
  if (first) story();
}

function lost(why) {
  link("lost", "not connected");
  const seen = state ? ` What stands below is from ${clock(state.at)}.` : "";
  const told = `${why ?? "The gateway does not answer."} Trying again.${seen}`;
  document.body.classList.toggle("stale", state !== null);
  if ($("notice").textContent !== told) $("notice").textContent = told;
  $("notice").hidden = false;
}

function link(kind, told) {
  if ($("link").textContent !== told) $("link").textContent = told;
  $("link").dataset.state = kind;
}

function door(why, status) {
  const had = sessionStorage.getItem(KEY);
  sessionStorage.removeItem(KEY);
  state = null;
  for (const id of ["board", "house", "empty", "notice", "forget"]) $(id).hidden = true;
  $("door").hidden = false;
  $("door-why").textContent = had || status === 403 ? why : "";
  link("wait", had ? "key refused" : "waiting for a key");
  $("key").focus();
  return new Promise((done) => {
    $("key-form").onsubmit = (event) => {
      event.preventDefault();
      sessionStorage.setItem(KEY, $("key").value.trim());
      $("key").value = "";
      link("wait", "connecting");
      done();
    };
  });
}

// -- drawing

const last = new Map();
function changed(name, ...values) {
  const told = JSON.stringify(values);
  if (last.get(name) === told) return false;
  last.set(name, told);
  return true;
}

function draw(fresh) {
  if (fresh) { last.clear(); $("last").tBodies[0].replaceChildren(); }
  const scope = state.scope ? `${state.scope} · ` : "", off = state.bypass.length ? ` · bypassed: ${state.bypass.join(", ")}` : "";
  $("who").textContent = `${scope}${state.version} · configuration ${state.config.slice(0, 8)} · since ${clock(state.started)}${off}`;
  if (changed("backends", state.backends)) backends();
  if ($("board").hidden) return;
  if (changed("tiles", state.now, state.ever, state.per_second, state.in_flight)) tiles();
  charts();
  if (changed("routes", state.routes)) routes();
  if (changed("rungs", state.rungs, state.backends)) rungs();
  decisions();
}

function charts() {
  const width = $("flow").clientWidth;
  if (!width) return;
  if (changed("flow", state.now, width)) $("flow").replaceChildren(flow(width, state.now));
  const { series } = state;
  if (changed("series", series, state.at, width)) overTime(series, $("time").clientWidth, $("why").clientWidth);
  if (changed("curves", curves, $("curves").clientWidth)) drawCurves();
}

function grouped(values) {
  const newest = state.at / state.step, ends = []; // columns stand still: they begin where their number divides by GROUP
  values.forEach((value, i) => {
    const column = Math.floor((newest - values.length + 1 + i) / GROUP);
    if (ends.at(-1)?.column === column) ends.at(-1).sum += value;
    else ends.push({ column, sum: value });
  });
  return ends.slice(-Math.floor(values.length / GROUP)).map((end) => end.sum);
}

function overTime(series, wide, wideToo) {
  const small = grouped(series.accepted), spilled = grouped(series.escalated), direct = grouped(series.direct), none = grouped(series.unanswered);
  const length = GROUP * state.step, per = (values) => values.map((value) => value / length);
  const sum = (values) => count(values.reduce((a, b) => a + b, 0));
  $("time").replaceChildren(columns(wide, [
    { kind: "f-small", values: per(small) }, { kind: "f-spill", values: per(spilled) },
    { kind: "f-direct", values: per(direct) }, { kind: "f-none", values: per(none) },
  ], (value) => `${+value.toPrecision(2)}`, `Requests over 15 minutes: ${sum(small)} answered by small models, ${sum(spilled)} spilled, ${sum(direct)} direct, ${sum(none)} not answered.`));
  $("time-key").replaceChildren(...[["b-small", "small models"], ["b-spill", "spilled"], ["b-direct", "direct"], ["b-none", "not answered"]]
    .map(([kind, told]) => h("span", {}, h("i", { class: `mark ${kind}` }), told)));
  const reasons = Object.entries(series.reasons).map(([reason, values]) => ({ reason, values: grouped(values) }));
  const asked = small.map((value, i) => value + spilled[i]);
  const total = asked.reduce((a, b) => a + b, 0);
  $("why").replaceChildren(reasons.length
    ? columns(wideToo, reasons.map(({ reason, values }) => ({ kind: hue(reason), values: values.map((value, i) => asked[i] ? value / asked[i] : 0) })),
      (value) => `${+(value * 100).toPrecision(3)} %`, `Escalation rate by reason over 15 minutes; the table below has the totals.`)
    : h("p", { class: "quiet" }, "Nothing escalated in the last 15 minutes."));
  const rows = Object.entries(state.now.reasons).map(([reason, n]) => h("tr", {},
    h("th", { scope: "row" }, h("i", { class: `mark ${hue(reason)}`, "aria-hidden": "true" }), words(reason)), h("td", { class: "n" }, count(n)), h("td", { class: "n" }, percent(total ? n / total : null))));
  $("reasons").tBodies[0].replaceChildren(...rows);
  $("reasons").hidden = !rows.length;
}

function tiles() {
  const { now, ever } = state;
  const saved = now.counterfactual - now.cost, whole = ever.counterfactual - ever.cost;
  const given = [
    ["LLM share of calls", percent(now.llm_calls), `since the start ${percent(ever.llm_calls)}`],
    ["LLM share of spend", percent(now.llm_spend), `${usd(now.cost)} spent in 15 min`],
    ["Served small", percent(now.answered ? (now.accepted + now.degraded) / now.answered : null), `${count(now.accepted + now.degraded)} of ${count(now.answered)} answers`],
    ["Escalation rate", percent(now.escalation), `${count(now.escalated)} of ${count(now.accepted + now.escalated)} that a small model was asked`],
    ["Saved against all-LLM", usd(saved), `since the start ${usd(whole)}`],
    ["Requests per second", state.per_second.toFixed(1), `${count(state.in_flight)} in flight, ${count(ever.requests)} since the start`],
  ];
  $("tiles").replaceChildren(...given.map(([name, big, sub]) => h("div", {}, h("dt", {}, name), h("dd", { class: "big" }, big), h("dd", { class: "sub" }, sub))));
}

function rungs() {
  const { rungs: told } = state;
  const least = Math.min(...told.map((rung) => rung.p50)) / 1.5, most = Math.max(...told.map((rung) => rung.p95)) * 1.2;
  const cloud = new Set(state.backends.filter((backend) => backend.cloud).map((backend) => backend.name));
  $("rungs").tBodies[0].replaceChildren(...told.map((rung) => h("tr", {},
    h("th", { scope: "row" }, rung.name), h("td", { class: "n" }, count(rung.count)), h("td", { class: "n" }, seconds(rung.p50)),
    h("td", { class: "n" }, seconds(rung.p95)), h("td", { class: "bar" }, range(rung.p50, rung.p95, least, most, cloud.has(rung.name))))));
}

function routes() {
  $("routes").tBodies[0].replaceChildren(...state.routes.map((route) => {
    const target = route.slo?.escalation_rate, over = target != null && route.escalation != null && route.escalation > target;
    const budget = route.slo?.failures;
    return h("tr", {},
      h("th", { scope: "row" }, route.name, route.default && h("span", { class: "quiet" }, " default")), h("td", {}, route.mode),
      h("td", {}, route.ladder.join(" → "), route.shadowed.length > 0 && h("span", { class: "quiet" }, ` (shadow: ${route.shadowed.join(", ")})`)),
      h("td", { class: "n" }, count(route.requests)), h("td", { class: "n" }, percent(route.llm_calls)),
      h("td", { class: over ? "n over" : "n" }, percent(route.escalation), over && " over"),
      h("td", { class: "n" }, target == null ? "–" : `≤ ${percent(target)}`),
      h("td", { class: "n" }, count(route.unanswered), budget != null && ` (≤ ${percent(budget)})`),
      h("td", { class: "n" }, route.risk == null ? "–" : `risk ≤ ${percent(route.risk)}`), h("td", { class: "n" }, usd(route.saved)));
  }));
}

function backends() {
  $("backends").tBodies[0].replaceChildren(...state.backends.map((backend) => h("tr", {},
    h("th", { scope: "row" }, backend.name, backend.cloud && h("span", { class: "quiet" }, " cloud")),
    h("td", { class: "wrap" }, h("span", { class: backend.available ? "up" : "down" }, backend.available ? "available" : "not available"), backend.why && `: ${backend.why}`,
      backend.view && h("div", { class: "quiet" }, backend.view)),
    h("td", { class: "mono" }, backend.model.length > 32 ? `${backend.model.slice(0, 12)}…` : backend.model),
    h("td", { class: "wrap" }, backend.replicas.length ? backend.replicas.map((one) => h("div", {}, h("span", { class: one.seen ? "up" : "down" }, one.url ?? ""),
      one.seen ? one.running != null && ` ${one.running} running, ${one.waiting} waiting` : " not seen")) : "–"),
    h("td", { class: "ledger" }, ledger(backend.ledger), backend.ledger_of && h("div", { class: "quiet" }, `as ${backend.ledger_of} knows it`)))));
}

function ledger(told) {
  const known = told.filter(([, what]) => what !== "unknown");
  if (!known.length) return "not probed";
  const rest = told.length - known.length;
  return [known.map(([name, what]) => h("span", { class: `chip ${what}` }, what === "enforced" ? words(name) : `${words(name)}: ${what}`)), rest > 0 && ` ${rest} unknown`];
}

function decisions() {
  const body = $("last").tBodies[0], key = (told) => `${told.id} ${told.time}`;
  const wanted = new Set(state.last.map(key));
  for (const row of [...body.rows]) if (!wanted.has(row.dataset.key)) row.remove();
  // Rows that stay are not moved, so that they keep the focus; of several workers one may tell of an older decision later than another.
  let next = body.firstElementChild;
  const line = (told) => {
    const row = h("tr", { "data-key": key(told) },
      h("td", {}, h("button", { type: "button", "data-id": told.id }, clock(told.time), h("span", { class: "said" }, `: why ${told.id}`))),
      h("td", {}, told.route || "–"), h("td", {}, h("span", { class: `tag t-${told.outcome}` }, told.outcome)), h("td", {}, words(told.why)),
      h("td", {}, told.served || `error ${told.status}`), h("td", { class: "n" }, told.attempts), h("td", { class: "n" }, seconds(told.seconds)), h("td", { class: "n" }, usd(told.saved)));
    row.onclick = () => { location.hash = `decision=${encodeURIComponent(told.id)}`; story(); };
    return row;
  };
  for (const told of state.last) {
    if (next?.dataset.key === key(told)) next = next.nextElementSibling;
    else body.insertBefore(line(told), next);
  }
}

async function loadCurves() {
  try {
    const answer = await ask("curves");
    curves = answer.ok ? await answer.json() : [];
    $("calibration").hidden = !curves.length;
    if (!$("board").hidden) charts();
  } catch { curvesOf = ""; } // asked again with the next state
}

function drawCurves() {
  const figures = curves.map(() => h("figure", { class: "chart" }));
  $("curves").replaceChildren(...figures);
  figures.forEach((figure, i) => figure.append(...figured(curves[i], figure.clientWidth)));
}

function figured(told, width) {
  return [h("figcaption", {}, h("b", {}, told.route), ` · ${told.rung}`),
    h("p", {}, told.coverage == null ? `no threshold keeps ${percent(told.risk)}` : `accepts ${percent(told.coverage)} from ${told.threshold.toFixed(4)} on; bound ${percent(told.bound)} of the promised ${percent(told.risk)}`),
    curve(width, told), h("p", {}, `Across: share accepted. Up: bound of ${told.bound_of}. ${count(told.size)} labelled requests.`)];
}

// -- one decision

async function story() {
  const id = new URLSearchParams(location.hash.slice(1)).get("decision");
  if (!id) { if ($("story").open) $("story").close(); return; }
  if ($("story").open && $("story").dataset.id === id) return;
  $("story").dataset.id = id;
  const body = $("story-body");
  body.replaceChildren(h("h2", { id: "story-title" }, "…"));
  if (!$("story").open) $("story").showModal();
  try {
    const answer = await ask(`decisions/${encodeURIComponent(id)}`);
    body.replaceChildren(...(answer.ok ? tell(await answer.json()) : [h("h2", { id: "story-title" }, "Not there"), h("p", {}, await said(answer))]));
  } catch {
    body.replaceChildren(h("h2", { id: "story-title" }, "The gateway does not answer"));
  }
}

const HOW = {
  accepted: (r) => `${r.served} answered, and passed every check`,
  escalated: (r) => `A small model was asked, and ${r.served} answered`,
  direct: (r) => `Straight to ${r.served}`,
  straight: (r) => `${r.served} answered, and Weir only looked on`,
  degraded: (r) => `${r.served} answered, unproven: nobody above could be asked`,
  refused: () => "No rung gave an answer that may be delivered",
  failed: () => "It failed",
  cancelled: () => "The caller left",
};

function tell({ record: r, would_change: turning }) {
  const time = r.seconds ?? {}, facts = [
    ["Request", h("span", { class: "mono" }, r.id)], ["At", clock(r.time)], ["Asked for", r.facts.model || "–"], ["Route", `${r.route || "–"} (${words(r.reason)})`],
    ["Router", r.router ? `${r.router}, ${seconds(time.router ?? 0)}` : "–"], ["Mode", r.mode || "–"], ["Took", seconds(time.total ?? 0)],
    ["First byte", seconds(time.first_byte)], ["Cost", usd(r.cost)], ["Saved", usd((r.counterfactual_cost ?? 0) - (r.cost ?? 0))],
    ["Key", r.tenant || "–"], ["Status", `${r.status ?? 200}${r.error ? ` ${r.error}` : ""}`],
  ];
  const scores = Object.entries(r.scores ?? {}).sort((a, b) => b[1] - a[1]).slice(0, 8);
  const outside = r.out_of_scope == null ? [] : [["out of scope", r.out_of_scope]];
  return [
    h("h2", { id: "story-title" }, (HOW[r.outcome] ?? (() => r.outcome))(r)),
    h("span", { class: `tag t-${r.outcome}` }, r.outcome), r.escalation ? ` ${words(r.escalation)}` : "",
    h("dl", { class: "facts" }, facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
    h("h3", {}, "What would have changed it"),
    turning.length ? h("ul", { class: "turn" }, turning.map((line) => h("li", {}, line))) : h("p", { class: "quiet" }, "Nothing in the configuration."),
    h("h3", {}, "Attempts"),
    (r.attempts ?? []).length ? h("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Attempts" }, h("table", { id: "attempts" },
      h("thead", {}, h("tr", {}, ["Rung", "For", "Ended", "Sure", "Checks", "Took", "Cost"].map((name) => h("th", { scope: "col" }, name)), h("td", { class: "bar" }))),
      h("tbody", {}, r.attempts.map((a) => h("tr", {},
        h("th", { scope: "row" }, a.rung), h("td", {}, a.purpose || "its turn"),
        h("td", {}, h("span", { class: `tag t-${a.outcome}` }, a.outcome), a.reason ? ` ${words(a.reason)}` : ""),
        h("td", {}, a.probability == null ? "–" : `${a.probability.toFixed(4)}${a.threshold == null ? "" : ` of ${a.threshold.toFixed(4)}`}`, a.agrees == null ? "" : a.agrees ? ", the second agreed" : ", the second disagreed"),
        h("td", { class: "wrap" }, a.error || ((a.verdicts ?? []).length ? h("ul", {}, a.verdicts.map((v) => h("li", {}, `${v.opinion === "pass" ? "✓" : v.opinion === "fail" ? "✗" : "?"} ${v.validator}${v.opinion === "pass" ? "" : `: ${v.detail || v.opinion}`}`))) : "–")),
        h("td", { class: "n" }, seconds(a.seconds ?? 0)), h("td", { class: "n" }, usd(a.cost ?? 0)),
        h("td", { class: "bar" }, span(a.start ?? 0, a.seconds ?? 0, time.total ?? 0, a.rung === r.top))))))) : h("p", { class: "quiet" }, "Nobody was asked."),
    ...(scores.length || outside.length ? [h("h3", {}, "Scores"), h("table", { class: "slim" }, h("thead", { class: "said" }, h("tr", {}, h("th", { scope: "col" }, "Route"), h("th", { scope: "col" }, "Score"))),
      h("tbody", {}, [...scores, ...outside].map(([name, value]) => h("tr", {}, h("th", { scope: "row" }, name), h("td", { class: "n" }, value.toFixed(3))))))] : []),
    h("details", {}, h("summary", {}, "The whole Record"), h("pre", { tabindex: "0" }, JSON.stringify(r, null, 2))),
  ];
}

// -- controls

const themes = ["auto", "light", "dark"];
function theme(name) {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  $("theme").textContent = `Theme: ${name}`;
}
$("theme").onclick = () => {
  const next = themes[(themes.indexOf(localStorage.getItem(THEME) ?? "auto") + 1) % themes.length];
  localStorage.setItem(THEME, next);
  theme(next);
};
$("forget").onclick = () => { sessionStorage.removeItem(KEY); location.reload(); };
$("story").addEventListener("close", () => { if (location.hash) history.replaceState(null, "", location.pathname); });
$("story").onclick = (event) => { if (event.target === $("story")) $("story").close(); };
addEventListener("hashchange", story);
let resized = 0;
addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(() => state && !$("board").hidden && charts(), 120); });
theme(themes.includes(localStorage.getItem(THEME)) ? localStorage.getItem(THEME) : "auto");
follow();
