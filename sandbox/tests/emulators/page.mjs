// Tries the sandbox's page in a headless Chromium. `page.rs` fills the sandbox and runs this.
//
//   node sandbox/tests/emulators/page.mjs BROWSER PROFILE_FOLDER URL [PNG]
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";

import { open } from "../../../scripts/browser.mjs";

const [path, profile, url, png] = process.argv.slice(2);
const browser = await open(path, profile);
const { page, evaluate, until } = browser;
await page("Emulation.setDeviceMetricsOverride", { width: 1100, height: 900, deviceScaleFactor: 1, mobile: false });
await page("Page.navigate", { url });
const same = (what, found, expected) => assert.deepEqual(found, expected, what);
const visible = "[...document.querySelectorAll('.note')].filter((note) => note.checkVisibility())";
const click = (selector) => evaluate(`document.querySelector(${JSON.stringify(selector)}).click()`);
const choose = (selector, value, event) => evaluate(`(() => {
  const field = document.querySelector(${JSON.stringify(selector)});
  field.value = ${JSON.stringify(value)};
  field.dispatchEvent(new Event(${JSON.stringify(event)}));
})()`);
const count = () => evaluate("document.getElementById('count').textContent");

// tests/page.rs sends 500 voice notes over WAHA, then a file over WAHA, a text over Evolution and audio over Discord.
await until("document.getElementById('live').textContent === 'live'");
await until("document.getElementById('count').textContent === '500 of 503 notes'");
const providers = await evaluate("[...document.querySelectorAll('#providers button')].map((one) => one.value)");
same("a button for every emulator", providers, ["", "linq", "wawp", "waha", "evolution", "whatsapp-cloud", "telegram", "discord", "http"]);
same("phones with notes", await evaluate("[...document.querySelectorAll('.phone')].filter((one) => one.checkVisibility()).map((one) => one.classList[1])"),
  ["waha", "evolution", "discord"]);
same("the newest note of a phone is in view", await evaluate(`(() => {
  const box = document.querySelector("#waha .note").getBoundingClientRect();
  return box.top >= 0 && box.top < innerHeight && document.querySelector("#waha .note .form").textContent;
})()`), "file");
if (png) writeFileSync(png, Buffer.from((await page("Page.captureScreenshot", { format: "png" })).data, "base64"));

await click("#providers button[value=discord]");
same("filtered by provider", await evaluate(`${visible}.map((note) => note.querySelector(".form").textContent)`), ["voice"]);
same("count by provider", await count(), "1 of 503 notes");
await click("#providers button[value='']");
await choose("#form", "text", "change");
same("filtered by form", await evaluate(`${visible}.map((note) => note.closest(".chats").id)`), ["evolution"]);
await choose("#form", "", "change");
await choose("#search", "15551000321", "input");
same("searched by recipient", await evaluate(`${visible}.length`), 1);
same("the filter is in the address", await evaluate("location.search"), "?q=15551000321");

// The provider's answer stands beside the request.
await evaluate(`${visible}[0].querySelector("details").open = true`);
await until(`${visible}[0].querySelector(".exchange p") !== null`);
const exchange = await evaluate(`${visible}[0].querySelector(".exchange").textContent`);
assert.match(exchange, /POST .*sendVoice/);
assert.match(exchange, /201 after \d+ ms/);
assert.match(exchange, /15551000321/);
const size = await evaluate(`fetch(${visible}[0].querySelector("a[download]").href).then((answer) => answer.arrayBuffer()).then((bytes) => bytes.byteLength)`);
assert(size > 100, `the download has ${size} bytes`);

await click("#clear");
await until("document.getElementById('count').textContent === '0 notes'");
await browser.close();
