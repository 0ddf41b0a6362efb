"use strict";
// The page is drawn from the whole picture whenever that changes. What came from outside gets into the document as text only,
// never as markup.

// ---- elements

// el makes an element. Attributes that are null or false are left out; children are elements, texts, or lists of them.
function el(tag, attrs, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(attrs || {})) {
    if (value !== null && value !== undefined && value !== false) e.setAttribute(name, value === true ? "" : value);
  }
  e.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== "").map((c) => (c instanceof Node ? c : String(c))));
  return e;
}

// morph makes an element like another one and keeps what is alike: the focus, what is open, where somebody has scrolled to.
function morph(was, now) {
  for (const a of [...was.attributes]) if (!now.hasAttribute(a.name) && a.name !== "open") was.removeAttribute(a.name);
  for (const a of now.attributes) if (was.getAttribute(a.name) !== a.value) was.setAttribute(a.name, a.value);
  const old = [...was.childNodes];
  const next = [...now.childNodes];
  next.forEach((n, i) => {
    const o = old[i];
    if (!o) was.append(n);
    else if (o.nodeType !== n.nodeType || o.nodeName !== n.nodeName || key(o) !== key(n)) o.replaceWith(n);
    else if (n.nodeType === Node.TEXT_NODE) { if (o.data !== n.data) o.data = n.data; } else morph(o, n);
  });
  old.slice(next.length).forEach((o) => o.remove());
}

const key = (n) => (n.dataset ? n.dataset.key : undefined);
const byId = (id) => document.getElementById(id);
const list = (x) => x || [];

// say changes a text only where it is another one: what is live is read aloud again else.
function say(e, text) {
  if (e.textContent !== text) e.textContent = text;
}

// ---- time

let ahead = 0; // what the server's clock is ahead of this one, ms
const serverNow = () => Date.now() + ahead;

// at is the time of day, with the date where it is not today's.
function at(text) {
  const t = new Date(text);
  const clock = t.toLocaleTimeString("en-GB");
  return t.toDateString() === new Date(serverNow()).toDateString() ? clock : t.toLocaleDateString("en-CA") + " " + clock;
}

function span(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const i = units.findIndex(([n]) => s >= n);
  return i < 0 ? "0 s" : Math.floor(s / units[i][0]) + " " + units[i][1];
}

const clock = (text) => el("time", { datetime: text, title: text }, at(text));
const age = (text) => el("time", { datetime: text, title: text, "data-age": true }, span(serverNow() - new Date(text)));

function tellAges() {
  for (const e of document.querySelectorAll("time[data-age]")) say(e, span(serverNow() - new Date(e.dateTime)));
}

// ---- the picture

const badge = (level) => el("span", { class: "badge", "data-level": level }, level);

function service(s) {
  const id = "service-" + s.name;
  return el("section", { "aria-labelledby": id, "data-key": s.name },
    el("h2", { id }, s.name, " ", badge(s.level)),
    findings(s),
    vips(s),
    nodes(s));
}

function findings(s) {
  const all = list(s.findings);
  if (all.length === 0) return el("p", { class: "quiet" }, "Every VIP is announced as it should be.");
  return el("ul", { class: "findings", "aria-label": "What is not as it should be" },
    all.map((f) => el("li", { "data-level": f.level }, badge(f.level), " ", f.text)));
}

// The roles are those that the elements have: styled as blocks on a narrow screen, they would lose them.
const table = (label, head, rows) => el("div", { class: "wide", role: "region", "aria-label": label, tabindex: "0" },
  el("table", { role: "table", "aria-label": label },
    el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, head.map((h) => el("th", { role: "columnheader", scope: "col" }, h)))),
    el("tbody", { role: "rowgroup" }, rows)));
const row = (name, attrs, ...cells) => el("tr", { role: "row", "data-key": name, ...attrs }, cells);
const cell = (label, attrs, ...content) => el("td", { role: "cell", "data-label": label, ...attrs }, el("div", {}, content));

function vips(s) {
  const names = [...new Set([...list(s.nodes).map((n) => n.node), ...list(s.vips).flatMap((v) => list(v.routes).map((r) => r.node))])].sort();
  const rows = list(s.vips).map((v) => row(v.vip, { "data-level": v.level },
    el("th", { role: "rowheader", scope: "row" }, el("code", {}, v.vip), v.level === "nominal" ? "" : [" ", badge(v.level)]),
    cell("announced by", { class: "who" }, announcers(v)),
    cell("owner", {}, v.owner || "not known", v.claim && v.claim !== v.owner ? el("span", { class: "note" }, " claimed by " + (v.claim === "?" ? "somebody who does not say" : v.claim)) : ""),
    names.map((n) => route(n, list(v.routes).find((r) => r.node === n), v))));
  return table("VIPs of " + s.name, ["VIP", "announced by", "owner", ...names], rows);
}

function announcers(v) {
  const all = list(v.announcers);
  return all.length === 0 ? el("strong", { class: "nobody" }, "nobody") : all.map((n, i) => [i > 0 ? ", " : "", i === 0 ? el("strong", {}, n) : n]);
}

// state of a route, as a word for people and one for the style sheet.
function state(r) {
  if (r.verdict === "announce") return r.announced ? ["announces", "on"] : ["announces, not heard", "unheard"];
  if (r.pending) return ["withdrawing", "unheard"];
  return r.verdict === "hold" ? ["holds", "hold"] : ["withdrawn", "off"];
}

function route(node, r, v) {
  if (!r) return cell(node, { class: "none" }, el("span", { class: "quiet" }, "–"));
  const [word, style] = state(r);
  const facts = [r.role === "backup" && r.verdict === "announce" ? "backup" : "", r.med ? "MED " + r.med : "", r.drift ? "drift" : ""].filter((x) => x !== "");
  const more = r.detail || r.since;
  const why = more ? el("details", {}, el("summary", {}, r.reason), r.detail ? el("p", {}, r.detail) : "", r.since ? el("p", { class: "quiet" }, "since ", clock(r.since)) : "") : el("span", { class: "quiet" }, r.reason);
  return cell(node, { "data-state": style, "data-owner": node === v.owner },
    el("span", { class: "state" }, word), facts.length > 0 ? el("span", { class: "note" }, " " + facts.join(", ")) : "", why);
}

function nodes(s) {
  const rows = list(s.nodes).map((n) => {
    const name = el("th", { role: "rowheader", scope: "row" }, n.node);
    if (!n.present) return row(n.node, { "data-level": "degraded" }, name, cell("state", { colspan: "5" }, el("strong", {}, "absent"), el("span", { class: "quiet" }, " no status record"), n.maintenance === "present" ? [", ", maintenance(n)] : ""));
    return row(n.node, {}, name,
      cell("check", { "data-state": n.health === "healthy" ? "on" : n.health === "unhealthy" ? "bad" : "hold" },
        el("span", { class: "state" }, n.health || "unknown"), n.last_resort ? el("span", { class: "note" }, " last resort") : "",
        n.health_detail ? el("p", { class: "detail" }, n.health_detail) : "", n.health_since ? el("span", { class: "quiet" }, " for ", age(n.health_since)) : ""),
      cell("maintenance", {}, maintenance(n)),
      cell("BGP", {}, neighbors(n)),
      cell("version", {}, n.version || "–"),
      cell("running", {}, n.since ? ["for ", age(n.since)] : "–"));
  });
  return table("Nodes of " + s.name, ["node", "check", "maintenance", "BGP neighbors", "version", "running"], rows);
}

function maintenance(n) {
  if (n.maintenance === "absent") return el("span", { class: "quiet" }, "no");
  if (n.maintenance !== "present") return "unknown";
  return [el("span", { "data-state": "hold" }, el("span", { class: "state" }, "drained")), n.entered ? [" for ", age(n.entered)] : "", n.note ? el("p", { class: "detail" }, n.note) : ""];
}

function neighbors(n) {
  const all = list(n.neighbors);
  if (all.length === 0) return el("span", { class: "quiet" }, "none known");
  return el("ul", { class: "plain" }, all.map((x) => el("li", { "data-state": x.state === "up" ? "on" : "bad" }, el("code", {}, x.peer), " ", el("span", { class: "state" }, x.state))));
}

// Changes of all services, newest first.
function timeline(changes) {
  const all = list(changes);
  return el("section", { "aria-labelledby": "changes", "data-key": "changes" },
    el("h2", { id: "changes" }, "What changed"),
    all.length === 0 ? el("p", { class: "quiet" }, "Nothing is known to have changed.") :
      el("ol", { class: "timeline" }, all.map((c) => el("li", { "data-what": c.what, "data-key": [c.at, c.node, c.what, c.vip, c.subject, c.to].join(" ") },
        clock(c.at), " ", el("strong", {}, c.node), " ",
        el("span", {}, c.what === "verdict" ? "" : c.what + " ", c.vip || c.subject ? el("code", {}, c.vip || c.subject) : "", c.vip || c.subject ? " " : "",
          c.from && c.from !== c.to ? c.from + " → " : "", el("b", {}, c.to), c.to === "announce" && c.role ? " as " + c.role : ""),
        c.reason ? el("span", { class: "note" }, " " + c.reason) : "", c.detail ? el("span", { class: "quiet" }, " " + c.detail) : ""))));
}

// zookeeper says why the picture may be old.
function zookeeper(view) {
  if (view.zookeeper === "connected") return "";
  const lost = list(view.changes).find((c) => c.what === "zookeeper" && c.node === view.observer);
  return "ZooKeeper is " + view.zookeeper + " as " + (view.observer || "the observer") + " sees it" + (lost ? ", since " + at(lost.at) : "") +
    ". What is shown of other nodes, and of claims, is as last read.";
}

// summary is short and says nothing of time: it is read aloud whenever it changes.
function summary(view) {
  if (view.level === "nominal") return "All nominal";
  const all = list(view.services).flatMap((s) => list(s.findings)).filter((f) => f.level === view.level);
  const words = [...new Set(all.map((f) => [f.word, f.vip || f.node].filter((x) => x).join(" ")))];
  const more = words.length > 3 ? " and " + (words.length - 3) + " more" : "";
  return (view.level === "down" ? "Down" : "Degraded") + (words.length > 0 ? ": " + words.slice(0, 3).join(", ") + more : "");
}

function draw(view) {
  const names = list(view.services).map((s) => s.name).join(", ");
  document.title = view.level + ": " + names + " – ExaZK";
  document.documentElement.dataset.level = view.level;
  say(byId("summary"), summary(view));
  morph(byId("observer"), el("p", { id: "observer" }, "seen by ", el("strong", {}, view.observer), ", ZooKeeper ", view.zookeeper));
  say(byId("notice"), zookeeper(view));
  morph(byId("main"), el("main", { id: "main", tabindex: "-1" }, list(view.services).map(service), timeline(view.changes)));
}

// ---- the connection

const patience = 7000; // ms without a word: three beats and a bit
const again = 1000; // ms before the next try
let source = null;
let version = null; // of the files that this page was made of
let heard = Date.now();
let last = null; // the server's time of the last word

function tellLink(state) {
  const e = byId("link");
  e.dataset.state = state;
  say(e, state === "live" ? "live" : "connection lost" + (last ? ", as seen at " + at(last) : "") + "; trying again");
  document.documentElement.dataset.link = state;
}

function word(time) {
  heard = Date.now();
  last = time;
  ahead = new Date(time) - heard;
  tellLink("live");
}

function connect() {
  heard = Date.now();
  source = new EventSource("/events");
  source.addEventListener("hello", (e) => {
    const hello = JSON.parse(e.data);
    if (version !== null && version !== hello.version) location.reload(); // the server was upgraded
    version = hello.version;
    word(hello.now);
  });
  source.addEventListener("beat", (e) => word(e.data));
  source.addEventListener("view", (e) => {
    draw(JSON.parse(e.data));
    word(new Date(serverNow()).toISOString());
  });
  source.addEventListener("error", lost);
}

// lost begins anew. The browser's own tries would end where the server answers that it has too many.
function lost() {
  if (!source) return;
  tellLink("stale");
  source.close();
  source = null;
  setTimeout(connect, again);
}

setInterval(() => {
  tellAges();
  if (source && Date.now() - heard > patience) lost();
}, 1000);
connect();
