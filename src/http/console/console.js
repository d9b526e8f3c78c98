"use strict";
// The console: a page for the holder of an API key. Everything comes from the gateway's own API.
//
// The key is kept in sessionStorage, which the browser forgets with the tab. Text from notes becomes text nodes, never markup.

const KEY = "voicegate.key";
const PAGE = 50;
const KEPT = 400;
const ENDED = ["failed", "expired", "canceled", "unknown"];
const IN_WORDS = {
  queued: "waiting", processing: "being prepared", sending: "being sent", accepted: "taken by the provider",
  sent: "sent", delivered: "delivered", read: "read", played: "played", failed: "failed", expired: "expired",
  canceled: "canceled", unknown: "outcome unknown",
};
const LOOKS = { accepted: "good", sent: "good", delivered: "good", read: "good", played: "good", failed: "bad",
  expired: "bad", unknown: "warn", canceled: "" };
const OUTCOMES = { accepted: "was taken by the provider", refused: "was refused", deferred: "will be tried again",
  unknown: "has no known outcome" };
const WORK = { none: "unchanged", remuxed: "in another container", transcoded: "converted" };

const $ = (id) => document.getElementById(id);
const el = (tag, props = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name in node) node[name] = value; else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return node;
};
const svg = (tag, props, ...children) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(props)) node.setAttribute(name, value);
  node.append(...children);
  return node;
};
const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`;
const bytes = (count) => count < 1024 ? `${count} B` : count < 1048576 ? `${Math.round(count / 1024)} KB`
  : `${(count / 1048576).toFixed(1)} MB`;
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const at = (time) => day.format(new Date(time));

// --- The API ----------------------------------------------------------------------------------------------------------

let key = sessionStorage.getItem(KEY);

// A problem of the gateway, as RFC 9457 has it, or a connection that failed.
class Refused extends Error {
  constructor(status, problem) {
    const field = problem.field ? `${problem.field}: ` : "";
    super(`${field}${problem.detail ?? problem.title ?? `the gateway answered ${status}`}`);
    this.status = status;
    this.code = problem.code;
  }
}

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { ...options, headers: { ...options.headers, Authorization: `Bearer ${key}` } });
  } catch {
    if (options.signal?.aborted) throw new DOMException("stopped", "AbortError");
    throw new Refused(0, { detail: "the gateway cannot be reached" });
  }
  if (answer.ok) return answer;
  let problem = {};
  try { problem = await answer.json(); } catch { /* not a problem document */ }
  if (answer.status === 401) leave();
  throw new Refused(answer.status, problem);
}
const json = async (path, options) => (await ask(path, options)).json();

function show(place, error) {
  place.hidden = !error;
  place.textContent = error ? error.message : "";
}

// Runs an action whose failure is shown at `place`; the button cannot be pressed meanwhile.
async function act(place, button, action) {
  show(place, null);
  if (button) button.disabled = true;
  try {
    await action();
  } catch (error) {
    if (error.name !== "AbortError") show(place, error);
  } finally {
    if (button) button.disabled = false;
  }
}

// --- Views ------------------------------------------------------------------------------------------------------------

const views = [...document.querySelectorAll("[data-view]")];
function go() {
  const wanted = location.hash.slice(1);
  const view = views.some((each) => each.dataset.view === wanted) ? wanted : "notes";
  for (const each of views) each.hidden = !key || each.dataset.view !== view;
  for (const link of $("nav").children) {
    if (link.hash === `#${view}`) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  if (key && view === "received") act($("received-problem"), null, () => loadReceived());
  if (key && view === "connections") connections();
  if (key && view === "usage") usage();
}
addEventListener("hashchange", () => { go(); $("content").focus(); });

function leave() {
  key = null;
  sessionStorage.removeItem(KEY);
  stopListening();
  for (const id of ["nav", "leave", "live"]) $(id).hidden = true;
  $("login").hidden = false;
  $("notes-list").replaceChildren();
  $("received-list").replaceChildren();
  shown.clear();
  go();
  $("key").focus();
}

async function enter() {
  const { items } = await json("/connections");
  sessionStorage.setItem(KEY, key);
  for (const id of ["nav", "leave", "live"]) $(id).hidden = false;
  $("login").hidden = true;
  for (const id of ["via", "find-via"]) {
    const select = $(id);
    while (select.options.length > 1) select.remove(1);
    for (const { name, provider } of items) select.add(new Option(`${name} (${provider})`, name));
  }
  go();
  await load();
  listen();
}

$("login-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key = $("key").value.trim();
  act($("login-problem"), event.submitter, async () => {
    try {
      await enter();
    } catch (error) {
      key = null;
      throw error;
    }
    $("key").value = "";
  });
});
$("leave").addEventListener("click", leave);

// --- Notes ------------------------------------------------------------------------------------------------------------

// The notes on the page, by id: { note, node }.
const shown = new Map();
let cursor = null;

const statuses = Object.keys(IN_WORDS);
for (const status of statuses) $("find-status").add(new Option(IN_WORDS[status], status));

function filter() {
  const query = new URLSearchParams();
  const find = $("find").value.trim();
  if (find) query.set("to", find);
  if ($("find-status").value) query.set("status", $("find-status").value);
  if ($("find-via").value) query.set("via", $("find-via").value);
  return query;
}

async function load(older = false) {
  const find = $("find").value.trim();
  let page;
  if (find.startsWith("vn_")) {
    page = { items: [await json(`/voice/${encodeURIComponent(find)}`)], next_cursor: null };
  } else {
    const query = filter();
    query.set("limit", PAGE);
    if (older && cursor) query.set("cursor", cursor);
    page = await json(`/voice?${query}`);
  }
  if (!older) {
    shown.clear();
    $("notes-list").replaceChildren();
  }
  for (const note of page.items) place(note, false);
  cursor = page.next_cursor;
  $("older").hidden = !cursor;
  const none = filter().size ? "No note matches." : "No note yet. Send one.";
  $("notes-said").textContent = shown.size ? "" : none;
  offer();
}

// Where the list shows notes that did not arrive, all of them can be sent again.
let recovering = false;
function offer() {
  const query = filter();
  const status = query.get("status");
  $("recover").hidden = !recovering && (!["failed", "expired", "unknown"].includes(status) || query.has("to") || !shown.size);
  if (recovering) return;
  $("recover-all").textContent = status === "unknown" ? "Send all again (may arrive twice)" : "Send all again";
  $("recover-said").textContent = "";
}
$("recover-all").addEventListener("click", (event) => act($("notes-problem"), event.target, async () => {
  const query = filter();
  const order = { status: [query.get("status")], ...(query.has("via") ? { via: query.get("via") } : {}) };
  const own = key;
  recovering = true;
  try {
    let task = await json("/voice/recover", { method: "POST", body: JSON.stringify(order), headers: { "Content-Type": "application/json" } });
    $("recover-said").textContent = "Sending again.";
    while (key === own) {
      $("recover-progress").hidden = false;
      $("recover-progress").max = Math.max(1, task.total);
      $("recover-progress").value = task.done + task.failed + task.skipped;
      $("recover-count").textContent = `${task.done} of ${task.total}${task.waiting ? `, waiting: ${task.waiting.detail}` : ""}`;
      if (task.status !== "running") break;
      await new Promise((resolve) => setTimeout(resolve, 1000));
      task = await json(`/tasks/${task.id}`);
    }
    const reasons = Object.entries(task.failures).map(([code, count]) => `${count} ${code}`).join(", ");
    $("recover-said").textContent = `${task.done} of ${task.total} sent again${reasons ? `; not possible: ${reasons}` : ""}.`;
  } finally {
    recovering = false;
    $("recover-progress").hidden = true;
    $("recover-count").textContent = "";
  }
}));

$("filter").addEventListener("submit", (event) => {
  event.preventDefault();
  act($("notes-problem"), event.submitter, async () => {
    await load();
    if (shown.size) $("notes-said").textContent = `${shown.size}${cursor ? " or more" : ""} found`;
  });
});
$("filter").addEventListener("reset", () => setTimeout(() => act($("notes-problem"), null, () => load())));
$("older").addEventListener("click", (event) => act($("notes-problem"), event.target, () => load(true)));

// Whether the filter shows a note that an event brought.
function matches(note) {
  const query = filter();
  return (!query.get("to") || note.to === query.get("to") || note.id === query.get("to"))
    && (!query.get("status") || note.status === query.get("status"))
    && (!query.get("via") || note.via === query.get("via"));
}

// Puts a note where it belongs: in its place if it is on the page, else at the top or the bottom.
function place(note, live) {
  const known = shown.get(note.id);
  if (known && known.note.updated_at > note.updated_at) return;
  if (!known && live && !matches(note)) return;
  const node = card(note, known?.node);
  if (known) {
    const focused = known.node.contains(document.activeElement) ? document.activeElement.dataset.does : null;
    known.node.replaceWith(node);
    if (focused) node.querySelector(`[data-does="${focused}"]`)?.focus();
  } else if (live) {
    node.classList.add("new");
    $("notes-list").prepend(node);
    $("notes-said").textContent = "";
  } else {
    $("notes-list").append(node);
  }
  shown.set(note.id, { note, node });
  if (live && shown.size > KEPT) {
    const last = $("notes-list").lastElementChild;
    shown.delete(last.dataset.id);
    last.remove();
  }
}

function card(note, before) {
  const name = `note-${note.id}`;
  const words = note.stalled ? "no receipt came" : IN_WORDS[note.status] ?? note.status;
  const looks = note.stalled ? "warn" : LOOKS[note.status] ?? "";
  const problem = el("p", { className: "problem", role: "alert", hidden: true });
  const node = el("li", { className: "note" },
    el("header", {},
      el("h3", { id: name }, note.to ?? "erased"),
      el("span", { className: `status ${looks}` }, words),
      el("span", { className: "soft" }, `${note.via} (${note.provider})`),
      el("time", { dateTime: note.created_at }, at(note.created_at))),
    sound(note, problem),
    el("p", { className: "soft" }, facts(note)),
    note.error ? el("p", { className: "problem" }, note.error.detail, " ",
      el("a", { href: `/docs/errors#${note.error.code}` }, note.error.code)) : null,
    ...note.warnings.map((warning) => el("p", { className: "soft" }, `Warning: ${warning.detail}`)),
    attempts(note, before?.querySelector("details")?.open ?? false),
    actions(note, problem), problem);
  node.dataset.id = note.id;
  node.setAttribute("aria-labelledby", name);
  return node;
}

function facts(note) {
  const { source, sent } = note.audio;
  const parts = [];
  if (source) parts.push(`${seconds(source.duration_ms)} of ${source.codec}, ${bytes(source.size_bytes)}`);
  if (sent) parts.push(`sent as ${sent.codec} in ${sent.container}, ${WORK[sent.work]}, ${bytes(sent.size_bytes)}`);
  if (note.form && note.form !== "voice") parts.push(`shown as ${note.form}`);
  if (note.next_attempt_at && !ENDED.includes(note.status)) parts.push(`next attempt ${at(note.next_attempt_at)}`);
  return parts.join("; ");
}

function attempts(note, open) {
  const lines = note.attempts.map((attempt) => el("li", {},
    `${at(attempt.at)}: over ${attempt.connection}, ${OUTCOMES[attempt.outcome] ?? attempt.outcome} after ${seconds(attempt.took_ms)}`,
    attempt.error ? `. ${attempt.error.detail}` : ""));
  for (const [name, words] of [["accepted_at", "taken by the provider"], ["sent_at", "sent"],
    ["delivered_at", "delivered"], ["read_at", "read"], ["played_at", "played"]]) {
    if (note[name]) lines.push(el("li", {}, `${at(note[name])}: ${words}`));
  }
  return el("details", { open },
    el("summary", { "data-does": "details" }, `What happened (${note.attempts.length === 1 ? "one attempt" : `${note.attempts.length} attempts`})`),
    el("ol", {}, ...lines),
    el("p", {}, el("code", {}, note.id), note.provider_message_id ? " at the provider " : "",
      note.provider_message_id ? el("code", {}, note.provider_message_id) : null,
      note.resend_of ? " repeats " : "", note.resend_of ? el("code", {}, note.resend_of) : null));
}

function actions(note, problem) {
  const buttons = [];
  const button = (does, label, path, said) => {
    const made = el("button", { type: "button", className: "quiet", "data-does": does }, label);
    made.addEventListener("click", () => act(problem, made, async () => {
      const headers = { "Idempotency-Key": crypto.randomUUID() };
      place(await json(`/voice/${note.id}/${path}`, { method: "POST", headers }), true);
      $("notes-said").textContent = said;
    }));
    buttons.push(made);
  };
  if (ENDED.includes(note.status)) {
    button("resend", note.status === "unknown" ? "Send again (may arrive twice)" : "Send again", "resend", "A new note repeats it.");
  }
  if (["queued", "processing"].includes(note.status)) button("cancel", "Cancel", "cancel", "The note was canceled.");
  return buttons.length ? el("div", { className: "actions" }, ...buttons) : null;
}

// --- Sound ------------------------------------------------------------------------------------------------------------

const player = new Audio();
let playing = null;
player.addEventListener("timeupdate", () => playing?.draw(player.currentTime / player.duration || 0));
player.addEventListener("ended", () => stopPlaying());
function stopPlaying() {
  player.pause();
  playing?.idle();
  playing = null;
}

const sound = (note, problem) => note.audio.waveform && note.to
  ? playable(note.audio.waveform, `the note to ${note.to}`, `/voice/${note.id}/audio?source=true`, problem) : null;

function playable(bars, what, path, problem) {
  const rects = bars.map((bar, index) => {
    const height = Math.max(2, bar * .32);
    return svg("rect", { x: index * 4, y: 16 - height / 2, width: 2.6, height, rx: 1.2 });
  });
  const wave = svg("svg", { class: "wave", viewBox: "0 0 256 32", preserveAspectRatio: "none", "aria-hidden": "true" }, ...rects);
  const button = el("button", { type: "button", "data-does": "play", "aria-label": `Play ${what}` }, "▶");
  const own = {
    draw: (part) => rects.forEach((rect, index) => rect.classList.toggle("played", index < part * rects.length)),
    idle: () => { button.textContent = "▶"; button.setAttribute("aria-label", `Play ${what}`); own.draw(0); },
  };
  button.addEventListener("click", () => {
    if (playing === own) return stopPlaying();
    stopPlaying();
    act(problem, null, async () => {
      const audio = await (await ask(path)).blob();
      URL.revokeObjectURL(player.src);
      player.src = URL.createObjectURL(audio);
      playing = own;
      button.textContent = "■";
      button.setAttribute("aria-label", "Stop");
      try {
        await player.play();
      } catch {
        stopPlaying();
        throw new Error("this browser cannot play the format of this audio");
      }
    });
  });
  return el("div", { className: "sound" }, button, wave);
}

// --- Received notes ---------------------------------------------------------------------------------------------------

let receivedCursor = null;

async function loadReceived(older = false) {
  const query = new URLSearchParams({ limit: PAGE, ...(older && receivedCursor ? { cursor: receivedCursor } : {}) });
  const page = await json(`/received?${query}`);
  if (!older) $("received-list").replaceChildren();
  $("received-list").append(...page.items.map(receivedCard));
  receivedCursor = page.next_cursor;
  $("received-older").hidden = !receivedCursor;
  $("received-said").textContent = $("received-list").childElementCount ? "" : "Nobody has sent a voice note yet.";
}
$("received-older").addEventListener("click", (event) => act($("received-problem"), event.target, () => loadReceived(true)));

// Shows a note that an event brought: in its place if it is on the page, else at the top.
function heard(note) {
  const node = receivedCard(note);
  const known = [...$("received-list").children].find((each) => each.dataset.id === note.id);
  if (known) return known.replaceWith(node);
  node.classList.add("new");
  $("received-list").prepend(node);
  $("received-said").textContent = "";
  if ($("received-list").childElementCount > KEPT) $("received-list").lastElementChild.remove();
}

function receivedCard(note) {
  const name = `received-${note.id}`;
  const problem = el("p", { className: "problem", role: "alert", hidden: true });
  const native = note.audio?.native;
  // What browsers play everywhere, where it was made.
  const url = note.audio?.renders["mp3-1"]?.url ?? native?.url;
  const node = el("li", { className: "note" },
    el("header", {},
      el("h3", { id: name }, note.sender_name ? `${note.sender_name}, ${note.from}` : note.from),
      el("span", { className: `status ${note.error ? "bad" : "good"}` }, note.status),
      el("span", { className: "soft" }, `${note.via} (${note.provider})${note.group ? `, in ${note.conversation}` : ""}`),
      el("time", { dateTime: note.received_at }, at(note.received_at))),
    url && note.waveform ? playable(note.waveform, `the note from ${note.from}`, url, problem) : null,
    native ? el("p", { className: "soft" }, `${seconds(native.duration_ms)} of ${native.codec}, ${bytes(native.size_bytes)}`) : null,
    note.transcript?.text ? el("p", {}, note.transcript.text) : null,
    note.error ? el("p", { className: "problem" }, note.error.detail, " ",
      el("a", { href: `/docs/errors#${note.error.code}` }, note.error.code)) : null,
    el("p", { className: "soft" }, el("code", {}, note.id)), problem);
  node.dataset.id = note.id;
  node.setAttribute("aria-labelledby", name);
  return node;
}

// --- Events -----------------------------------------------------------------------------------------------------------

let listening = null;
function stopListening() {
  listening?.abort();
  listening = null;
}

// Reads the event stream. EventSource cannot send the key, so the stream is read by fetch; a break is mended after 2 s.
async function listen() {
  stopListening();
  const own = listening = new AbortController();
  let last = null;
  while (!own.signal.aborted) {
    try {
      const headers = { Accept: "text/event-stream", ...(last ? { "Last-Event-ID": last } : {}) };
      const { body } = await ask("/events", { headers, signal: own.signal });
      live(true);
      // Notes that moved while nobody listened.
      if (!last) await refresh();
      let rest = "";
      for (const reader = body.pipeThrough(new TextDecoderStream()).getReader(); ;) {
        const { done, value } = await reader.read();
        if (done) break;
        rest += value;
        const blocks = rest.split(/\r?\n\r?\n/);
        rest = blocks.pop();
        for (const block of blocks) {
          const fields = Object.fromEntries(block.split(/\r?\n/).map((line) => line.split(/: ?(.*)/s).slice(0, 2)));
          if (fields.id) last = fields.id;
          const { type = "", data } = JSON.parse(fields.data ?? "{}");
          if (["voice.received", "voice.transcribed"].includes(type)) heard(data);
          else if (type.startsWith("voice.")) place(data, true);
        }
      }
    } catch (error) {
      if (error.name === "AbortError" || !key) return;
    }
    live(false);
    await new Promise((resolve) => setTimeout(resolve, 2000));
  }
}
function live(on) {
  $("live").classList.toggle("on", on);
  $("live").textContent = on ? "live" : "connecting";
}

// Not every step of a note is an event: waiting notes on the page are read again while there are any.
async function refresh() {
  const moving = [...shown.values()].filter(({ note }) => ["queued", "processing", "sending"].includes(note.status));
  for (const { note } of moving.slice(0, 20)) place(await json(`/voice/${note.id}`), false);
}
setInterval(() => { if (key && !document.hidden) refresh().catch(() => {}); }, 2000);

// --- Send -------------------------------------------------------------------------------------------------------------

let audio = null;
let recorder = null;

function choose(blob, name) {
  audio = blob && { blob, name };
  $("chosen").hidden = !audio;
  URL.revokeObjectURL($("preview").src);
  if (!audio) {
    $("preview").removeAttribute("src");
    $("file").value = "";
    return;
  }
  $("chosen-name").textContent = `${name}, ${bytes(blob.size)}`;
  $("preview").src = URL.createObjectURL(blob);
}
$("file").addEventListener("change", (event) => event.target.files[0] && choose(event.target.files[0], event.target.files[0].name));
$("discard").addEventListener("click", () => { choose(null); $("record").focus(); });

$("record").addEventListener("click", (event) => {
  if (recorder) return recorder.stop();
  act($("send-problem"), event.target, async () => {
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    } catch {
      throw new Error("the browser gives no access to a microphone; a page has it over https or on this machine only");
    }
    const parts = [];
    recorder = new MediaRecorder(stream);
    const began = Date.now();
    const ticking = setInterval(() => { $("recorded").textContent = `recording, ${seconds(Date.now() - began)}`; }, 200);
    recorder.ondataavailable = ({ data }) => parts.push(data);
    recorder.onstop = () => {
      clearInterval(ticking);
      for (const track of stream.getTracks()) track.stop();
      $("record").textContent = "Record";
      $("record").setAttribute("aria-pressed", "false");
      $("recorded").textContent = "or";
      choose(new Blob(parts, { type: recorder.mimeType }), "recording");
      recorder = null;
    };
    recorder.start();
    $("record").textContent = "Stop";
    $("record").setAttribute("aria-pressed", "true");
  });
});

$("send-form").addEventListener("submit", (event) => {
  event.preventDefault();
  $("send-said").textContent = "";
  act($("send-problem"), $("send"), async () => {
    if (!audio) throw new Error("record something, or choose a file");
    const query = new URLSearchParams({ to: $("to").value.trim() });
    if ($("via").value) query.set("via", $("via").value);
    if ($("text").value) query.set("text", $("text").value);
    if (audio.name !== "recording") query.set("filename", audio.name);
    const note = await json(`/voice?${query}`, { method: "POST", body: audio.blob, headers: {
      "Content-Type": audio.blob.type.startsWith("audio/") ? audio.blob.type : "application/octet-stream",
      "Idempotency-Key": crypto.randomUUID() } });
    place(note, true);
    choose(null);
    $("text").value = "";
    $("send-said").replaceChildren(`The note to ${note.to} is on its way. `, el("a", { href: "#notes" }, "Watch it"));
  });
});

// --- Plan -------------------------------------------------------------------------------------------------------------

function plan(file) {
  $("plan-said").textContent = "";
  act($("plan-problem"), null, async () => {
    const to = $("plan-to").value.trim();
    if (!to) throw new Error("enter a recipient first");
    const query = new URLSearchParams({ to, filename: file.name });
    const result = await json(`/voice/plan?${query}`, { method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" } });
    $("plan-said").textContent = `${file.name}: ${seconds(result.audio.duration_ms)} of ${result.audio.codec}`;
    const rows = result.connections.map((each) => el("tr", {},
      el("th", { scope: "row" }, `${each.connection} (${each.provider})`),
      el("td", {}, el("span", { className: `status ${{ ok: "good", warning: "warn", refused: "bad" }[each.verdict]}` }, each.verdict)),
      el("td", {}, each.form ? `${each.form}, ${each.work ? WORK[each.work] : "text only"}` : "nothing"),
      el("td", {}, each.audio ? `${each.audio.codec} in ${each.audio.container}, ${bytes(each.audio.size_bytes)}` : ""),
      el("td", {}, each.reasons.map((reason) => reason.detail).join("; "))));
    $("plan-result").replaceChildren(el("table", {},
      el("caption", {}, "The first connection that does not refuse would be used."),
      el("thead", {}, el("tr", {}, ...["Connection", "Verdict", "Shown as", "Audio", "Why"].map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, ...rows)));
  });
}
$("plan-file").addEventListener("change", ({ target }) => { if (target.files[0]) plan(target.files[0]); target.value = ""; });
$("plan-form").addEventListener("submit", (event) => { event.preventDefault(); $("plan-file").click(); });

for (const zone of document.querySelectorAll(".drop")) {
  zone.addEventListener("dragover", (event) => { event.preventDefault(); zone.classList.add("over"); });
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    const file = event.dataTransfer.files[0];
    if (!file) return;
    if (zone.dataset.drop === "plan") plan(file); else choose(file, file.name);
  });
}

// --- Connections ------------------------------------------------------------------------------------------------------

const HEALTH = { ok: "good", paused: "warn", failing: "bad", unchecked: "" };
function connections() {
  act($("connections-problem"), null, async () => {
    const { items, webhook } = await json("/connections");
    const hook = webhook && el("article", { className: "card" },
      el("h3", {}, "Webhook ", el("span", { className: `status ${HEALTH[webhook.health] ?? ""}` }, webhook.health)),
      webhook.health_detail ? el("p", { className: "problem" }, webhook.health_detail) : null,
      el("p", { className: "soft" }, "Events are posted to it."));
    $("connections-list").replaceChildren(...(hook ? [hook] : []), ...items.map((each) => el("article", { className: "card" },
      el("h3", {}, `${each.name} (${each.provider}) `, el("span", { className: `status ${HEALTH[each.health] ?? ""}` }, each.health)),
      each.health_detail ? el("p", { className: "problem" }, each.health_detail) : null,
      each.conversations_closed_until
        ? el("p", { className: "soft" }, `No new conversations until ${at(each.conversations_closed_until)}.`) : null,
      el("p", { className: "soft" }, `Recipients: ${each.capabilities.recipients.join(", ")}`),
      el("p", {}, "Notes are shown as, best first:"),
      el("ol", {}, ...each.capabilities.forms.map((form) => el("li", {},
        `${form.form}${form.profile ? ` (${form.profile})` : ""}, at most ${bytes(form.max_bytes)}`,
        form.max_duration_ms ? `, ${seconds(form.max_duration_ms)}` : "",
        form.caption ? `, text of ${form.caption} characters` : ""))))));
    if (!items.length) $("connections-list").append(el("p", {}, "This tenant has no connection."));
  });
}

// --- Usage ------------------------------------------------------------------------------------------------------------

const count = new Intl.NumberFormat();
const USED = [["Notes", "notes", count.format], ["Audio", "seconds", (sum) => seconds(sum * 1000)],
  ["Received", "bytes_in", bytes], ["Made", "bytes_out", bytes], ["Attempts", "attempts", count.format]];
function usage() {
  act($("usage-problem"), null, async () => {
    const by = $("usage-by").value;
    const query = new URLSearchParams({ by });
    for (const end of ["from", "to"]) if ($(`usage-${end}`).value) query.set(end, $(`usage-${end}`).value);
    const { from, to, items } = await json(`/usage?${query}`);
    $("usage-from").value = from;
    $("usage-to").value = to;
    $("usage-said").textContent = items.length ? "" : "No note in these days.";
    if (!items.length) return $("usage-result").replaceChildren();
    const heading = (text, className = "") => el("th", { scope: "col", className }, text);
    const numbers = (of) => USED.map(([, field, show]) => el("td", { className: "number" }, show(of(field))));
    $("usage-result").replaceChildren(el("table", {},
      el("caption", {}, `Notes accepted from ${from} to ${to}. Days are those of UTC.`),
      el("thead", {}, el("tr", {}, heading(by), ...USED.map(([name]) => heading(name, "number")), heading("Now"))),
      el("tbody", {}, ...items.map((item) => el("tr", {},
        el("th", { scope: "row" }, item.key), ...numbers((field) => item[field]),
        el("td", {}, Object.entries(item.by_status).map(([status, sum]) => `${count.format(sum)} ${IN_WORDS[status] ?? status}`).join(", "))))),
      el("tfoot", {}, el("tr", {}, el("th", { scope: "row" }, "all"),
        ...numbers((field) => items.reduce((sum, item) => sum + item[field], 0)), el("td", {})))));
  });
}
$("usage-form").addEventListener("submit", (event) => { event.preventDefault(); usage(); });

// --- Start ------------------------------------------------------------------------------------------------------------

if (key) act($("login-problem"), null, enter); else go();
