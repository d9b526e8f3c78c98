// Opens a page in a headless Chromium, waits until every waveform on it is drawn, and saves the picture.
//
//   node scripts/screenshot.mjs BROWSER PROFILE_FOLDER URL PNG
//
// It speaks the DevTools protocol over a pipe: JSON messages that end with a zero byte, written to the browser's file
// descriptor 3 and read from its 4. That needs no package and opens no port.
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

const [browser, profile, url, png] = process.argv.slice(2);
const VIEW = { width: 1000, height: 405, deviceScaleFactor: 1.5, mobile: false };
const DEADLINE_MS = 30_000;

// A waveform is drawn when a bar of it reaches the upper part of its canvas; until then it is a row of dots.
const DRAWN = `(() => {
  const waves = [...document.querySelectorAll("canvas.wave")];
  const reaches = (wave) => wave.width > 0 &&
    wave.getContext("2d").getImageData(0, Math.ceil(wave.height / 8), wave.width, 1).data.some((value) => value > 0);
  return waves.length >= 2 && waves.every(reaches);
})()`;

const args = ["--headless", "--remote-debugging-pipe", `--user-data-dir=${profile}`, "--disable-gpu", "--hide-scrollbars",
  "--no-proxy-server", "about:blank"];
// Root may not use the browser's own sandbox; the page comes from this machine.
if (process.getuid?.() === 0) args.unshift("--no-sandbox");
const child = spawn(browser, args, { stdio: ["ignore", "ignore", "inherit", "pipe", "pipe"] });
child.on("error", (error) => fail(error.message));
child.on("exit", (code) => fail(`the browser ended with ${code}`));

function fail(reason) {
  console.error(`screenshot: ${reason}`);
  child.removeAllListeners("exit");
  child.kill();
  process.exit(1);
}
setTimeout(() => fail("the page was not ready in time"), DEADLINE_MS).unref();

const [input, output] = [child.stdio[3], child.stdio[4]];
// A broken pipe means that the browser has ended, which its "exit" event reports.
input.on("error", () => {});
const waiting = new Map();
let unread = Buffer.alloc(0);
output.on("data", (chunk) => {
  unread = Buffer.concat([unread, chunk]);
  for (let end = unread.indexOf(0); end >= 0; end = unread.indexOf(0)) {
    const message = JSON.parse(unread.subarray(0, end).toString("utf8"));
    unread = unread.subarray(end + 1);
    if (message.error) fail(message.error.message);
    waiting.get(message.id)?.(message.result);
    waiting.delete(message.id);
  }
});

let last = 0;
function call(method, params = {}, sessionId = undefined) {
  const id = ++last;
  return new Promise((resolve) => {
    waiting.set(id, resolve);
    input.write(JSON.stringify({ id, method, params, sessionId }) + "\0");
  });
}

const { targetId } = await call("Target.createTarget", { url: "about:blank" });
const { sessionId } = await call("Target.attachToTarget", { targetId, flatten: true });
const page = (method, params) => call(method, params, sessionId);
await page("Emulation.setDeviceMetricsOverride", VIEW);
await page("Page.navigate", { url });
while (!(await page("Runtime.evaluate", { expression: DRAWN, returnByValue: true })).result.value) await sleep(100);
// A new note fades in; let it finish.
await sleep(500);
const { data } = await page("Page.captureScreenshot", { format: "png" });
writeFileSync(png, Buffer.from(data, "base64"));
child.removeAllListeners("exit");
// Its profile folder can be removed only once it has ended.
child.on("exit", () => process.exit(0));
await call("Browser.close");
