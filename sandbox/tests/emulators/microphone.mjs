// Records a voice note with the browser's fake microphone and sends it in, by keyboard alone. `page.rs` runs this, and
// answers as a bot does.
//
//   node sandbox/tests/emulators/microphone.mjs BROWSER PROFILE_FOLDER URL PROVIDER [PNG]
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

import { open } from "../../../scripts/browser.mjs";

const [path, profile, url, provider, png] = process.argv.slice(2);
const browser = await open(path, profile, ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]);
const { page, evaluate, until } = browser;
const same = (what, found, expected) => assert.deepEqual(found, expected, what);
const key = async (name, code) => {
  const text = name === "Enter" ? "\r" : undefined;
  await page("Input.dispatchKeyEvent", { type: "keyDown", key: name, code: name, windowsVirtualKeyCode: code, text });
  await page("Input.dispatchKeyEvent", { type: "keyUp", key: name, code: name, windowsVirtualKeyCode: code });
};
await page("Emulation.setDeviceMetricsOverride", { width: 1100, height: 900, deviceScaleFactor: 1, mobile: false });
await page("Page.navigate", { url: `${url}?provider=${provider}` });
await until("document.getElementById('live').textContent === 'live'");
await evaluate("window.refused = []; document.addEventListener('securitypolicyviolation', (event) => refused.push(event.violatedDirective))");

const phone = `document.querySelector(".phone.${provider}")`;
await until(`${phone}.querySelector(".record") !== null`);
same("phones with a microphone", await evaluate("[...document.querySelectorAll('.record')].map((one) => one.closest('.phone').classList[1])"),
  ["linq", "wawp", "waha", "evolution", "whatsapp-cloud", "telegram"]);
const { nodes } = await page("Accessibility.getFullAXTree");
const named = nodes.some((node) => node.role?.value === "button" && node.name?.value === "Record a voice note");
assert(named, "a screen reader finds the microphone");

// Escape throws a recording away.
await evaluate(`${phone}.querySelector(".record").focus()`);
await key("Enter", 13);
await until(`${phone}.querySelector(".record").getAttribute("aria-pressed") === "true"`);
await key("Escape", 27);
await until(`${phone}.querySelector(".state").textContent === "thrown away"`);
same("nothing was sent", await evaluate("document.querySelectorAll('.said').length"), 0);

await key("Enter", 13);
await until(`${phone}.querySelector(".record").getAttribute("aria-pressed") === "true"`);
await until(`${phone}.querySelector(".state").textContent.startsWith("recording")`);
await sleep(1500);
await key("Enter", 13);
await until(`${phone}.querySelector(".state").textContent === "sent"`);
await until(`${phone}.querySelector(".said .answers").textContent === "the gateway answered 200"`);

// The bot's answer stands in the same conversation, as a quote of what was said.
await until(`${phone}.querySelector(".note .quote") !== null`);
same("one conversation", await evaluate(`${phone}.querySelectorAll(".chat").length`), 1);
await evaluate(`${phone}.querySelector(".quote button").click()`);
same("the quote leads to what was said", await evaluate("document.activeElement.closest('.said') !== null"), true);
same("the policy was kept", await evaluate("refused"), []);
if (png) writeFileSync(png, Buffer.from((await page("Page.captureScreenshot", { format: "png" })).data, "base64"));
await browser.close();
