"use strict";
// Text from requests only ever becomes a text node, never markup.
const el = (tag, props = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name in node) node[name] = value; else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== ""));
  return node;
};
const SHOWN = 500;
const BARS = 46;
const ICONS = { play: "M3 1.6v12.8L14 8z", pause: "M3 2h3.6v12H3zM9.4 2H13v12H9.4z", stop: "M3 3h10v10H3z",
  record: "M8 1a2.5 2.5 0 0 1 2.5 2.5v4a2.5 2.5 0 0 1-5 0v-4A2.5 2.5 0 0 1 8 1zM3 7h1.5a3.5 3.5 0 0 0 7 0H13a5 5 0 0 1-4.2 4.9V14H11v1.4H5V14h2.2v-2.1A5 5 0 0 1 3 7z" };
// The items of /sandbox/emulators by name, and the shown entries by id.
const emulators = new Map();
const entries = new Map();
// The notes that people sent in, by id.
const spoken = new Map();
let total = 0;
// `/?still` shows the notes that are there and does not change: for screenshots and printing.
const query = new URLSearchParams(location.search);
const still = query.has("still");
const drawings = [];
const saysPlayed = (provider) => emulators.get(provider)?.says.includes("played");
let playing = null;

const icon = (name) => {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
};
const clock = (seconds) => {
  const whole = Math.max(0, Math.round(seconds || 0));
  return Math.floor(whole / 60) + ":" + String(whole % 60).padStart(2, "0");
};
const bytes = (size) => size < 1000 ? size + " bytes" : size < 1e6 ? (size / 1e3).toFixed(1) + " kB" : (size / 1e6).toFixed(2) + " MB";

const CONTAINERS = { mp3: "MP3", mp4: "M4A", adts: "AAC (ADTS)", ogg: "Ogg", wav: "WAV", aiff: "AIFF", caf: "CAF", amr: "AMR",
  flac: "FLAC", webm: "WebM", unknown: "No known audio format" };
const CODECS = { opus: "Opus", aac: "AAC", mp3: "MP3", alac: "ALAC", amr_nb: "narrowband", amr_wb: "wideband", flac: "FLAC", vorbis: "Vorbis" };

function whatArrived(entry) {
  const audio = entry.audio, parts = [];
  if (!audio) return [];
  const container = CONTAINERS[audio.container] || audio.container, codec = CODECS[audio.codec] || audio.codec;
  parts.push(codec && codec !== container && audio.container !== "adts" ? container + " with " + codec : container);
  if (audio.sample_rate) parts.push(audio.sample_rate / 1000 + " kHz");
  if (audio.channels) parts.push(audio.channels === 1 ? "mono" : audio.channels === 2 ? "stereo" : audio.channels + " channels");
  if (audio.duration_ms !== null) parts.push((audio.duration_ms / 1000).toFixed(1) + " s");
  parts.push(bytes(entry.size_bytes));
  const lines = [parts.join(", ")];
  if (audio.frame_ms) {
    const how = [audio.bandwidth + " speech coding (" + audio.modes.join(" and ") + ")"];
    how.push(audio.frames_per_packet + " × " + audio.frame_ms + " ms a packet");
    if (audio.vendor) how.push("written by “" + audio.vendor + "”");
    how.push(audio.comments ? audio.comments + (audio.comments === 1 ? " tag" : " tags") : "no tags");
    if (audio.bandwidth === "fullband" || audio.modes.includes("celt")) how[0] = audio.bandwidth + " (" + audio.modes.join(" and ") + ")";
    lines.push(how.join(", "));
  }
  if (audio.index_first === false) lines.push("The index stands at the end: playback starts only when all is loaded");
  return lines;
}

const FORMS = { voice: "voice note", audio: "audio attachment, not a voice bubble", file: "file, not a voice bubble", text: "text", refused: "nothing was delivered" };
const SHORT_FORMS = { voice: "voice", audio: "audio", file: "file", text: "text", refused: "refused" };

// Some requests name the gateway's note.
const noteId = (entry) => /vn_[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/.exec(JSON.stringify(entry.request, short))?.[0];

// The request that brought the entry, with the provider's answer and both times. It is asked for when it is opened.
async function exchange(entry, into) {
  const answer = await fetch("/sandbox/ledger/" + encodeURIComponent(entry.id) + "/request");
  if (!answer.ok) return;
  const { method, path, at, took_ms, status, answer: body } = await answer.json();
  const took = took_ms === null ? "no answer yet" : status + " after " + took_ms + " ms";
  into.replaceChildren(el("p", { textContent: method + " " + path }), el("p", { textContent: at + " · " + took }),
    body === null ? "" : el("pre", { textContent: JSON.stringify(body, null, 2) }));
}

function facts(entry) {
  const box = el("div", { className: "facts" });
  for (const line of whatArrived(entry)) box.append(el("p", { textContent: line }));
  const convert = entry.convert === true ? ", the provider was asked to convert it" : entry.convert === false ? ", sent as it is" : "";
  const time = el("time", { dateTime: entry.at, title: entry.at, textContent: new Date(entry.at).toLocaleTimeString() });
  const line = el("p", {}, (FORMS[entry.form] || entry.form) + convert + " · ", time);
  if (!entry.problems.length) line.append(" · ", el("span", { className: "fine", textContent: "✓ fine" }));
  box.append(line);
  if (entry.reply_to) box.append(el("p", { textContent: "in reply to " + entry.reply_to }));
  const id = noteId(entry);
  if (id) box.append(el("p", { textContent: "note " + id }));
  if (entry.audio) {
    const url = "/sandbox/ledger/" + encodeURIComponent(entry.id) + "/audio";
    box.append(el("p", {}, el("a", { href: url, download: entry.filename || "note", textContent: "download" })));
  }
  const names = { message: entry.message_id, file: entry.filename, declared: entry.mime_type, sha256: entry.sha256, request: entry.request };
  const answer = el("div", { className: "exchange" });
  const more = el("details", {}, el("summary", { textContent: entry.via }), el("pre", { textContent: JSON.stringify(names, null, 2) }), answer);
  more.addEventListener("toggle", () => { if (more.open) exchange(entry, answer); });
  box.append(more);
  return box;
}

// The states that the sender's own phone would show, in order. A failure counts only while nothing has arrived.
const RANKS = ["accepted", "sent", "failed", "delivered", "read", "played"];
const WORDS = { accepted: "waiting", sent: "sent", failed: "not delivered", delivered: "delivered", read: "read", played: "played" };
const TICKS = { accepted: "◷", sent: "✓", failed: "!", delivered: "✓✓", read: "✓✓", played: "✓✓" };
const known = new Map();

function receipts(provider, id, list) {
  const before = known.get(id);
  // Events may overtake the ledger; the longer list is the newer one, and answers come in later.
  if (before && before.list.length > list.length) list = before.list;
  known.set(id, { provider, list });
  const box = document.getElementById("receipt-" + id);
  if (!box) return;
  const rank = (receipt) => RANKS.indexOf(receipt.status);
  const last = list.reduce((best, one) => !best || rank(one) > rank(best) ? one : best, null);
  const parts = [];
  if (last) {
    if (saysPlayed(provider)) {
      const seen = last.status === "read" || last.status === "played";
      parts.push(el("span", { className: seen ? "seen" : "ticks", "aria-hidden": "true", textContent: TICKS[last.status] }));
    }
    const time = el("time", { dateTime: last.at, title: last.at, textContent: new Date(last.at).toLocaleTimeString() });
    const word = el("b", { textContent: WORDS[last.status] });
    if (last.status === "failed") word.className = "wrong";
    parts.push(el("span", {}, word, " ", time));
  }
  const wrong = new Set(list.flatMap((one) => one.answers).filter((answer) => !/^2/.test(answer)));
  for (const answer of wrong) parts.push(el("span", { className: "wrong", textContent: answer === "no answer" ? "the webhook got no answer" : "the webhook got a " + answer }));
  if (last && list.every((one) => !one.answers.length)) parts.push(el("span", { title: "No webhook is registered, so no receipt was sent", textContent: "no webhook" }));
  const canBeRead = emulators.get(provider)?.says.includes("read");
  if (canBeRead && !list.some((one) => one.status === "read" || one.status === "played")) {
    const button = el("button", { className: "link", type: "button", textContent: "mark as read" });
    button.addEventListener("click", () => tell(id, "read"));
    parts.push(button);
  }
  box.replaceChildren(...parts);
}

const tell = (id, status) => fetch("/sandbox/ledger/" + encodeURIComponent(id) + "/receipts",
  { method: "POST", body: JSON.stringify({ status }) }).catch(() => {});

// Playing a note here reads it, and on WhatsApp also plays it.
function heard(entry) {
  const now = known.get(entry.id)?.list ?? [];
  const is = (status) => now.some((one) => one.status === status);
  const says = emulators.get(entry.provider)?.says ?? [];
  const played = () => { if (says.includes("played") && !is("played")) tell(entry.id, "played"); };
  if (says.includes("read") && !is("read")) tell(entry.id, "read").then(played); else played();
}

function player(entry, folder = "ledger", onplay = heard) {
  const url = "/sandbox/" + folder + "/" + encodeURIComponent(entry.id) + "/audio";
  const length = entry.audio && entry.audio.duration_ms !== null ? entry.audio.duration_ms / 1000 : 0;
  const audio = el("audio", { preload: "none", src: url });
  const button = el("button", { className: "play", type: "button", "aria-label": "Play" }, icon("play"));
  const wave = el("canvas", { className: "wave", tabIndex: 0, role: "slider", "aria-label": "Position", "aria-valuemin": "0" });
  const time = el("span", { className: "time", textContent: clock(length) });
  const file = el("div", { className: "file" });
  let peaks = new Array(BARS).fill(0.06), real = length;
  const total = () => Number.isFinite(audio.duration) && audio.duration > 0 ? audio.duration : real;

  const draw = () => {
    const ratio = devicePixelRatio || 1, width = wave.clientWidth, height = wave.clientHeight;
    if (!width) return;
    wave.width = width * ratio;
    wave.height = height * ratio;
    const context = wave.getContext("2d"), style = getComputedStyle(wave);
    context.scale(ratio, ratio);
    const done = total() ? audio.currentTime / total() : 0, step = width / BARS;
    peaks.forEach((peak, index) => {
      const tall = Math.max(3, peak * (height - 4));
      context.fillStyle = style.getPropertyValue((index + 0.5) / BARS <= done ? "--played" : "--wave");
      context.beginPath();
      context.roundRect(index * step + step * 0.2, (height - tall) / 2, step * 0.6, tall, step * 0.3);
      context.fill();
    });
    const moved = audio.currentTime > 0 && !audio.ended;
    time.textContent = clock(moved ? audio.currentTime : total());
    wave.setAttribute("aria-valuemax", total().toFixed(1));
    wave.setAttribute("aria-valuenow", audio.currentTime.toFixed(1));
    wave.setAttribute("aria-valuetext", clock(audio.currentTime) + " of " + clock(total()));
  };
  const seek = (seconds) => { if (total()) { audio.currentTime = Math.min(Math.max(seconds, 0), total()); draw(); } };
  const toggle = () => { if (audio.paused) audio.play().catch(cannot); else audio.pause(); };
  const cannot = () => {
    button.disabled = true;
    file.replaceChildren("This browser cannot play it: ", el("a", { href: url, download: entry.filename || "note", textContent: "download" }));
  };
  const face = (name, label) => { button.replaceChildren(icon(name)); button.setAttribute("aria-label", label); };
  const frame = () => { draw(); if (!audio.paused) requestAnimationFrame(frame); };
  audio.addEventListener("play", () => {
    if (playing && playing !== audio) playing.pause();
    playing = audio;
    face("pause", "Pause");
    frame();
    onplay(entry);
  });
  for (const name of ["pause", "ended"]) audio.addEventListener(name, () => { face("play", "Play"); draw(); });
  button.addEventListener("click", toggle);
  const point = (event) => { const box = wave.getBoundingClientRect(); seek((event.clientX - box.left) / box.width * total()); };
  wave.addEventListener("pointerdown", (event) => { wave.setPointerCapture(event.pointerId); point(event); });
  wave.addEventListener("pointermove", (event) => { if (event.buttons & 1) point(event); });
  wave.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
    if (step) seek(audio.currentTime + step);
    else if (event.key === "Home") seek(0);
    else if (event.key === "End") seek(total());
    else if (event.key === " " || event.key === "Enter") toggle();
    else return;
    event.preventDefault();
  });
  const load = async () => {
    try {
      const data = await (await fetch(url)).arrayBuffer();
      // An offline context decodes without asking for the loudspeaker.
      const decoded = await new OfflineAudioContext(1, 1, 16000).decodeAudioData(data);
      const samples = decoded.getChannelData(0), size = Math.max(1, Math.floor(samples.length / BARS));
      const loud = Array.from({ length: BARS }, (_, bar) => {
        let sum = 0;
        for (let at = bar * size; at < (bar + 1) * size && at < samples.length; at += 1) sum += samples[at] * samples[at];
        return Math.sqrt(sum / size);
      });
      const most = Math.max(...loud, 1e-6);
      peaks = loud.map((value) => most > 1e-4 ? value / most : 0.06);
      real = decoded.duration;
    } catch { cannot(); }
    draw();
  };
  new ResizeObserver(draw).observe(wave);
  // Decoded when first seen, so that a long inbox opens at once; in a picture, all are decoded before it is taken.
  if (still) drawings.push(load());
  const seen = new IntersectionObserver((found) => { if (found.some((one) => one.isIntersecting)) { seen.disconnect(); load(); } });
  if (!still) seen.observe(wave);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  return el("div", { className: "bubble voice" + (entry.form === "audio" || entry.form === "file" ? " as-audio" : "") },
    el("div", { className: "player" }, button, wave, time), file, audio);
}

function note(entry, fresh) {
  const box = el("article", { className: "note" + (fresh ? " new" : ""), id: "note-" + entry.id });
  box.append(el("span", { className: "form " + entry.form, textContent: SHORT_FORMS[entry.form] || entry.form }));
  const quoted = answered(entry);
  if (quoted) box.append(quote(quoted));
  if (entry.text) box.append(el("div", { className: "bubble text", textContent: entry.text }));
  if (entry.audio) box.append(player(entry));
  if (entry.form === "refused") box.append(el("div", { className: "bubble refused", textContent: "A request was refused" }));
  if (entry.problems.length) {
    const list = el("ul", { className: "problems", "aria-label": "Problems" });
    for (const problem of entry.problems) list.append(el("li", { textContent: problem }));
    box.append(list);
  }
  if (entry.form !== "refused") box.append(el("div", { className: "receipt", id: "receipt-" + entry.id }));
  box.append(facts(entry));
  return box;
}

// The note of a person that an entry answers. Telegram counts messages within a chat.
function answered(entry) {
  const id = entry.reply_to;
  if (!id) return null;
  const same = (one) => one.provider === entry.provider && (one.message_id === id || one.message_id === entry.conversation.split("/")[0] + ":" + id);
  return [...spoken.values()].find(same) ?? null;
}

function quote(item) {
  const length = item.audio.duration_ms === null ? "" : ", " + clock(item.audio.duration_ms / 1000);
  const link = el("button", { className: "link", type: "button", textContent: "in reply to your voice note" + length });
  link.addEventListener("click", () => document.querySelector("#said-" + CSS.escape(item.id) + " .play")?.focus());
  return el("blockquote", { className: "quote" }, link);
}

function chatOf(list, entry, names) {
  const key = entry.provider + " " + entry.conversation;
  const known = [...list.children].find((one) => one.dataset.key === key);
  if (known) return known;
  const title = el("h3", { textContent: names.join(", ") || "nobody" });
  if (entry.service) title.append(el("span", { className: "chip", textContent: entry.service }));
  const chat = el("section", { className: "chat" }, title);
  chat.dataset.key = key;
  return chat;
}

// A note that a person sent in, on the person's side of the conversation.
function said(item) {
  const list = document.getElementById(item.provider);
  if (!list) return;
  spoken.set(item.id, item);
  const before = document.getElementById("said-" + item.id);
  if (before) {
    before.querySelector(".answers").replaceChildren(...answers(item));
    return;
  }
  list.querySelector(".empty")?.remove();
  const chat = chatOf(list, item, [item.group ? item.conversation : item.from]);
  const time = el("time", { dateTime: item.at, title: item.at, textContent: new Date(item.at).toLocaleTimeString() });
  const who = item.sender_name || item.from;
  chat.querySelector("h3").after(el("article", { className: "said", id: "said-" + item.id, "aria-label": "Voice note from " + who },
    player(item, "inbound", () => {}), el("p", { className: "facts" }, who + " · ", time, " · ", el("span", { className: "answers" }, ...answers(item)))));
  if (list.firstChild !== chat && !chat.contains(document.activeElement)) list.prepend(chat);
}

function answers(item) {
  if (!item.answers.length) return [el("span", { textContent: "on its way" })];
  const text = item.answers.length > 3 ? item.answers.length + " answers" : "the gateway answered " + item.answers.join(", ");
  return [el("span", { className: item.answers.every((one) => /^2/.test(one)) ? "fine" : "wrong", textContent: text })];
}

// What a microphone records, in the first kind that the browser has. Phones send Ogg.
const KINDS = ["audio/ogg;codecs=opus", "audio/mp4;codecs=mp4a.40.2", "audio/webm;codecs=opus"];
const base64 = (blob) => new Promise((resolve, reject) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
  reader.onerror = () => reject(reader.error);
  reader.readAsDataURL(blob);
});

// The microphone of a phone: pressed once it records, and pressed again it sends. Escape throws the recording away.
function microphone(provider, to) {
  const from = el("input", { value: to, "aria-label": "Your address", autocomplete: "off", spellcheck: false });
  const button = el("button", { className: "record", type: "button", "aria-pressed": "false" });
  const state = el("span", { className: "state", role: "status" });
  let recorder = null, ticking = 0;
  const face = (recording) => {
    button.replaceChildren(icon(recording ? "stop" : "record"), recording ? "Send the recording" : "Record a voice note");
    button.setAttribute("aria-pressed", String(recording));
  };
  const stop = (send) => { if (recorder) { recorder.sends = send; recorder.stop(); } };
  const start = async () => {
    state.className = "state";
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    } catch (error) {
      state.textContent = "The browser gives no microphone: " + error.message;
      return;
    }
    const pieces = [], began = Date.now();
    recorder = new MediaRecorder(stream, { mimeType: KINDS.find((kind) => MediaRecorder.isTypeSupported(kind)) });
    recorder.sends = true;
    recorder.addEventListener("dataavailable", (event) => pieces.push(event.data));
    recorder.addEventListener("stop", async () => {
      const sends = recorder.sends;
      recorder = null;
      clearInterval(ticking);
      stream.getTracks().forEach((track) => track.stop());
      face(false);
      state.textContent = sends ? "sending" : "thrown away";
      if (sends) await deliver(new Blob(pieces));
    });
    recorder.start();
    face(true);
    // Said once; the clock beside it is for the eye alone.
    const passed = el("span", { "aria-hidden": "true" });
    state.replaceChildren("recording ", passed);
    ticking = setInterval(() => { passed.textContent = clock((Date.now() - began) / 1000); }, 250);
  };
  const deliver = async (blob) => {
    const order = { provider, from: from.value.trim(), sender_name: "You", audio: await base64(blob) };
    const answer = await fetch("/sandbox/inbound", { method: "POST", body: JSON.stringify(order) }).catch(() => null);
    const told = await answer?.json().catch(() => null);
    state.textContent = answer?.ok ? "sent" : told?.error ?? "the sandbox does not answer";
    if (!answer?.ok) state.className = "state wrong";
  };
  button.addEventListener("click", () => { if (recorder) stop(true); else start(); });
  button.addEventListener("keydown", (event) => { if (event.key === "Escape") stop(false); });
  face(false);
  return el("div", { className: "talk", role: "group", "aria-label": "Send a voice note in" }, button, el("label", {}, "as ", from), state);
}

function show(entry, fresh) {
  const list = document.getElementById(entry.provider);
  if (!list || document.getElementById("note-" + entry.id)) return;
  entries.set(entry.id, entry);
  list.querySelector(".empty")?.remove();
  const chat = chatOf(list, entry, entry.to);
  // The newest note stands first, so that it is in view.
  chat.querySelector("h3").after(note(entry, fresh));
  while (entries.size > SHOWN) forget(entries.keys().next().value);
  // In the page by now or in a moment; the line is filled when it is.
  queueMicrotask(() => receipts(entry.provider, entry.id, entry.receipts));
  // The conversation with the latest note stands first, unless something in it would lose the focus.
  if (list.firstChild !== chat && !chat.contains(document.activeElement)) list.prepend(chat);
}

function forget(id) {
  entries.delete(id);
  known.delete(id);
  const box = document.getElementById("note-" + id), chat = box?.closest(".chat");
  box?.remove();
  if (chat && !chat.querySelector(".note, .said")) chat.remove();
}

const filter = { provider: query.get("provider") ?? "", form: query.get("form") ?? "", search: query.get("q") ?? "" };
// Long texts in requests are files.
const short = (_, value) => typeof value === "string" && value.length > 300 ? "" : value;
const searchTexts = new WeakMap();
function searchText(entry) {
  if (!searchTexts.has(entry)) {
    searchTexts.set(entry, [entry.conversation, ...entry.to, entry.message_id, entry.text, entry.filename, entry.service, entry.via,
      entry.reply_to, JSON.stringify(entry.request, short), ...entry.problems].join("\n").toLowerCase());
  }
  return searchTexts.get(entry);
}

// Shows the notes that fit the filter. Of an empty sandbox every phone is shown, else those with notes.
function filtered() {
  const words = filter.search.toLowerCase().split(/\s+/).filter(Boolean), counts = new Map();
  let shown = 0;
  for (const entry of entries.values()) {
    const rest = (!filter.form || entry.form === filter.form) && words.every((word) => searchText(entry).includes(word));
    if (rest) counts.set(entry.provider, (counts.get(entry.provider) ?? 0) + 1);
    const fits = rest && (!filter.provider || entry.provider === filter.provider);
    if (fits) shown += 1;
    const box = document.getElementById("note-" + entry.id);
    if (box) box.hidden = !fits;
  }
  for (const item of spoken.values()) {
    const text = [item.from, item.conversation, item.message_id, item.sender_name].join("\n").toLowerCase();
    const fits = (!filter.form || filter.form === item.form) && words.every((word) => text.includes(word));
    const box = document.getElementById("said-" + item.id);
    if (box) box.hidden = !fits || (filter.provider !== "" && item.provider !== filter.provider);
  }
  for (const chat of document.querySelectorAll(".chat")) chat.hidden = !chat.querySelector(".note:not([hidden]), .said:not([hidden])");
  for (const name of emulators.keys()) {
    const list = document.getElementById(name), has = list.querySelector(".chat:not([hidden])") !== null;
    list.closest(".phone").hidden = filter.provider ? name !== filter.provider : entries.size + spoken.size > 0 && !has;
  }
  for (const button of document.querySelectorAll("#providers button")) {
    const name = button.value, count = name ? counts.get(name) ?? 0 : [...counts.values()].reduce((sum, one) => sum + one, 0);
    button.setAttribute("aria-pressed", String(name === filter.provider));
    button.querySelector("b").textContent = count;
  }
  const notes = (count) => count + (count === 1 ? " note" : " notes");
  document.getElementById("count").textContent = shown === total ? notes(total) : shown + " of " + notes(total);
}

function choose(change) {
  Object.assign(filter, change);
  for (const [name, value] of [["provider", filter.provider], ["form", filter.form], ["q", filter.search]]) {
    if (value) query.set(name, value); else query.delete(name);
  }
  history.replaceState(null, "", query.size ? "?" + query : location.pathname);
  filtered();
}

function empty() {
  entries.clear();
  spoken.clear();
  for (const [provider, { look }] of emulators) {
    const list = document.getElementById(provider);
    const command = "curl http://127.0.0.1:8080/voice \\\n  -H \"Authorization: Bearer $VOICEGATE_KEY\" \\\n  -F to=" + look.to +
      " \\\n  -F audio=@hello.mp3";
    list.replaceChildren(el("div", { className: "empty" }, el("p", { textContent: "No notes yet. Send the first one through the gateway:" }),
      el("pre", { textContent: command })));
  }
}

// One phone for each emulator.
async function phones() {
  if (emulators.size) return;
  const { items } = await (await fetch("/sandbox/emulators")).json();
  for (const item of items) {
    const { name, look } = item;
    emulators.set(name, item);
    const title = el("h2", {}, look.app + " ", el("span", { textContent: look.through }));
    const chats = el("div", { className: "chats", id: name, "aria-live": "polite" });
    const talk = item.inbound && !still ? microphone(name, look.to) : "";
    const phone = el("section", { className: "phone " + name, "aria-label": look.app + " through " + name }, title, chats, talk);
    phone.style.setProperty("--own-bubble", look.bubble);
    phone.style.setProperty("--own-ink", look.ink);
    document.querySelector("main").append(phone);
  }
  for (const name of ["", ...emulators.keys()]) {
    const button = el("button", { type: "button", value: name }, name || "all", el("b"));
    button.addEventListener("click", () => choose({ provider: name }));
    document.getElementById("providers").append(button);
  }
}

async function reload() {
  await phones();
  const { items } = await (await fetch("/sandbox/ledger")).json();
  const { items: sent } = await (await fetch("/sandbox/inbound")).json();
  const known = new Set(items.map((entry) => "note-" + entry.id));
  const shown = [...document.querySelectorAll(".note")];
  // Start over only where what is shown was cleared meanwhile; a playing note goes on playing otherwise.
  if (!shown.length || shown.some((one) => !known.has(one.id))) empty();
  for (const one of [...items.slice(-SHOWN), ...sent].sort((a, b) => a.at < b.at ? -1 : a.at > b.at ? 1 : 0)) {
    if ("answers" in one) { said(one); continue; }
    show(one, false);
    receipts(one.provider, one.id, one.receipts);
  }
  total = items.length;
  filtered();
}

const live = document.getElementById("live"), form = document.getElementById("form"), search = document.getElementById("search");
[form.value, search.value] = [filter.form, filter.search];
form.addEventListener("change", () => choose({ form: form.value }));
search.addEventListener("input", () => choose({ search: search.value }));
if (still) {
  reload().then(() => Promise.all(drawings)).then(() => { live.textContent = "ready"; live.className = "on"; });
} else {
  const source = new EventSource("/sandbox/events");
  source.addEventListener("open", () => { live.textContent = "live"; live.className = "on"; reload(); });
  source.addEventListener("error", () => { live.textContent = "disconnected, trying again"; live.className = ""; });
  source.addEventListener("entry", (event) => {
    const entry = JSON.parse(event.data);
    if (!entries.has(entry.id)) total += 1;
    show(entry, true);
    filtered();
  });
  source.addEventListener("receipts", (event) => {
    const { id, receipts: list } = JSON.parse(event.data);
    const provider = document.getElementById("note-" + id)?.closest(".chats")?.id;
    if (provider) receipts(provider, id, list);
  });
  source.addEventListener("inbound", (event) => { said(JSON.parse(event.data)); filtered(); });
  source.addEventListener("cleared", () => { known.clear(); total = 0; empty(); filtered(); });
  source.addEventListener("reload", reload);
}
document.getElementById("clear").addEventListener("click", () => fetch("/sandbox/clear", { method: "POST" }));
