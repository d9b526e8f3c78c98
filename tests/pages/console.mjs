// Uses the console as a person does: with a keyboard, a microphone and a screen reader's view of the page.
//
//   node tests/pages/console.mjs BROWSER PROFILE_FOLDER GATEWAY SANDBOX KEY AXE PICTURES
//
// GATEWAY and SANDBOX are those of `voicegate demo`. AXE is the file axe.min.js, PICTURES a folder for screenshots.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { open } from "../../scripts/browser.mjs";

const [path, profile, gateway, sandbox, key, axe, pictures] = process.argv.slice(2);
const browser = await open(path, profile, [
  "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--autoplay-policy=no-user-gesture-required",
]);
const { page, evaluate, until } = browser;
const PHONE = "+15551234567";

const post = async (url, body, headers = {}) => {
  const answer = await fetch(url, { method: "POST", body, headers });
  assert(answer.ok, `${url}: ${answer.status} ${await answer.text()}`);
};
const press = async (name, code, text = undefined) => {
  for (const type of [text ? "keyDown" : "rawKeyDown", "keyUp"]) {
    await page("Input.dispatchKeyEvent", { type, key: name, code: name, windowsVirtualKeyCode: code, text });
  }
};
const enter = () => press("Enter", 13, "\r");
const type = (text) => page("Input.insertText", { text });
const focus = (id) => evaluate(`document.getElementById(${JSON.stringify(id)}).focus()`);
const see = async (view) => {
  await evaluate(`location.hash = ${JSON.stringify(view)}`);
  await until(`!document.querySelector('[data-view="${view}"]').hidden`);
};
const picture = async (name) => {
  const { data } = await page("Page.captureScreenshot", { format: "png" });
  writeFileSync(join(pictures, `console-${name}.png`), Buffer.from(data, "base64"));
};
// The first note on the page whose text contains `words`.
const note = (words) => `[...document.querySelectorAll(".note")].find((each) => each.innerText.includes(${JSON.stringify(words)}))`;

// Rules of WCAG 2.2 at the levels A and AA.
const accessible = async (where) => {
  await evaluate(readFileSync(axe, "utf8"));
  const found = await evaluate(`axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] })
    .then(({ violations }) => violations.map(({ id, nodes }) => id + ": " + nodes.map(({ html }) => html).join(" ")))`);
  assert.deepEqual(found, [], `accessibility of ${where}`);
};
const everywhere = async (where) => {
  for (const scheme of ["light", "dark"]) {
    await page("Emulation.setEmulatedMedia", { features: [
      { name: "prefers-color-scheme", value: scheme }, { name: "prefers-reduced-motion", value: "reduce" }] });
    await accessible(`${where}, ${scheme}`);
    await picture(`${where}-${scheme}`);
  }
};

await page("Runtime.enable");
await page("Log.enable");
await page("Emulation.setDeviceMetricsOverride", { width: 1100, height: 900, deviceScaleFactor: 1, mobile: false });
await page("Page.navigate", { url: `${gateway}/console` });

// A wrong key is refused in words; the right one leads in, by the keyboard alone.
await until(`document.getElementById("key")`);
await everywhere("login");
await focus("key");
await type("vg_this_is_not_the_key_of_anybody_at_all_00000");
await enter();
await until(`!document.getElementById("login-problem").hidden`);
assert.match(await evaluate(`document.getElementById("login-problem").innerText`), /key/);
await evaluate(`document.getElementById("key").value = ""`);
await focus("key");
await type(key);
await enter();
await until(`document.getElementById("login").hidden && document.querySelectorAll(".note").length >= 2`);
await until(`document.getElementById("live").innerText === "live"`);
assert.equal(await evaluate("sessionStorage.length"), 1);
assert.equal(await evaluate("localStorage.length"), 0);
await everywhere("notes");

// A note from the microphone becomes played, without a reload.
await see("send");
await everywhere("send");
await focus("to");
await type(PHONE);
await focus("record");
await enter();
await until(`document.getElementById("recorded").innerText.startsWith("recording, 1")`);
await focus("record");
await enter();
await until(`!document.getElementById("chosen").hidden`);
await evaluate(`document.getElementById("via").value = "whatsapp"`);
await focus("text");
await focus("send");
await enter();
await until(`document.getElementById("send-said").innerText.includes("on its way") || !document.getElementById("send-problem").hidden`);
assert.equal(await evaluate(`document.getElementById("send-problem").innerText`), "");
await see("notes");
const recorded = note("of opus");
await until(`${recorded}.innerText.includes("taken by the provider") || ${recorded}.innerText.includes("delivered")`);
const id = await evaluate(`${recorded}.dataset.id`);
const own = `document.querySelector('.note[data-id="${id}"]')`;
const sent = await (await fetch(`${gateway}/voice/${id}`, { headers: { Authorization: `Bearer ${key}` } })).json();
const { items } = await (await fetch(`${sandbox}/sandbox/ledger`)).json();
const entry = items.find(({ message_id }) => message_id === sent.provider_message_id);
assert(entry, `the ledger has ${sent.provider_message_id}`);
await post(`${sandbox}/sandbox/ledger/${entry.id}/receipts`, JSON.stringify({ status: "played" }));
await until(`${own}.querySelector(".status").innerText === "played"`);
assert.equal(await evaluate(`${own}.querySelectorAll("svg.wave rect").length`), 64);

// It can be heard.
await evaluate(`${own}.querySelector('[data-does="play"]').click()`);
await until(`${own}.querySelector("rect.played")`);

// What failed is sent again.
await post(`${sandbox}/sandbox/faults`, JSON.stringify({ provider: "wawp", operation: "voice", action: { kind: "status", status: 400 } }));
const failing = new URLSearchParams({ to: "+15551239999", via: "whatsapp" });
await post(`${gateway}/voice?${failing}`, readFileSync("src/demo/sample.mp3"), { Authorization: `Bearer ${key}`, "Content-Type": "audio/mpeg" });
await until(`${note("+15551239999")}.innerText.includes("failed")`);
await everywhere("failed");
await evaluate(`${note("+15551239999")}.querySelector('[data-does="resend"]').click()`);
await until(`[...document.querySelectorAll(".note")].filter((each) => each.innerText.includes("+15551239999")).length === 2`);
await until(`${note("+15551239999")}.innerText.includes("delivered") || ${note("+15551239999")}.innerText.includes("taken")`);

// Everything that failed is sent again by one button; a note that was sent again before is left out.
await post(`${sandbox}/sandbox/faults`, JSON.stringify({ provider: "wawp", operation: "voice", times: 2, action: { kind: "status", status: 400 } }));
for (const to of ["+15551238881", "+15551238882"]) {
  await post(`${gateway}/voice?${new URLSearchParams({ to, via: "whatsapp" })}`, readFileSync("src/demo/sample.mp3"), { Authorization: `Bearer ${key}`, "Content-Type": "audio/mpeg" });
  await until(`${note(to)}.innerText.includes("failed")`);
}
assert(await evaluate(`document.getElementById("recover").hidden`), "not where other notes are shown");
await evaluate(`document.getElementById("find-status").value = "failed"`);
await focus("find");
await enter();
await until(`!document.getElementById("recover").hidden && document.querySelectorAll(".note").length === 3`);
await everywhere("recover");
await focus("recover-all");
await enter();
await until(`document.getElementById("recover-said").innerText === "2 of 2 sent again." || !document.getElementById("notes-problem").hidden`);
assert.equal(await evaluate(`document.getElementById("notes-problem").innerText`), "");
await evaluate(`document.getElementById("find-status").value = ""`);
await evaluate(`document.getElementById("filter").requestSubmit()`);
await until(`document.getElementById("recover").hidden`);
await until(`${note("+15551238881")}.innerText.includes("delivered") || ${note("+15551238881")}.innerText.includes("taken")`);

// A search by recipient shows theirs alone.
await evaluate(`document.getElementById("find").value = "+15551239999"`);
await focus("find");
await enter();
await until(`document.getElementById("notes-said").innerText === "2 found"`);
assert.equal(await evaluate(`document.querySelectorAll(".note").length`), 2);

// A file is planned.
await see("plan");
await evaluate(`document.getElementById("plan-to").value = ${JSON.stringify(PHONE)}`);
const { root } = await page("DOM.getDocument");
const { nodeId } = await page("DOM.querySelector", { nodeId: root.nodeId, selector: "#plan-file" });
await page("DOM.setFileInputFiles", { nodeId, files: [join(process.cwd(), "src/demo/sample.mp3")] });
await until(`document.querySelectorAll("#plan-result tbody tr").length >= 1`);
assert.match(await evaluate(`document.getElementById("plan-said").innerText`), /10\.3 s of mp3/);
await everywhere("plan");

await see("connections");
await until(`document.querySelectorAll("#connections-list article").length === 2`);
await everywhere("connections");

// The usage of the tenant is the sum of its notes.
await see("usage");
await until(`document.querySelectorAll("#usage-result tbody tr").length === 1`);
await evaluate(`document.getElementById("usage-by").value = "status"`);
await focus("usage-by");
await evaluate(`document.getElementById("usage-form").requestSubmit()`);
await until(`document.querySelector("#usage-result thead th").innerText === "status"`);
const used = await (await fetch(`${gateway}/usage`, { headers: { Authorization: `Bearer ${key}` } })).json();
assert.equal(await evaluate(`document.querySelector("#usage-result tfoot td").innerText`), String(used.items[0].notes));
await everywhere("usage");

// A phone shows everything without scrolling sideways.
await page("Emulation.setDeviceMetricsOverride", { width: 360, height: 740, deviceScaleFactor: 2, mobile: true });
for (const view of ["notes", "send", "plan", "connections", "usage"]) {
  await see(view);
  assert(await evaluate("document.documentElement.scrollWidth <= innerWidth"), `${view} is too wide for a phone`);
}
await see("notes");
await picture("phone");

// Nothing was refused by the Content-Security-Policy, and no script failed.
const wrong = browser.heard.filter(({ method, params }) => method === "Runtime.exceptionThrown"
  || (method === "Log.entryAdded" && params.entry.level === "error" && !/401|400/.test(params.entry.text)));
assert.deepEqual(wrong.map(({ params }) => params.entry?.text ?? params.exceptionDetails?.exception?.description), []);

// Logging out forgets the key.
await evaluate(`document.getElementById("leave").click()`);
assert.equal(await evaluate("sessionStorage.length"), 0);
assert.equal(await evaluate(`document.querySelectorAll(".note").length`), 0);
await browser.close();
