// Drives a headless Chromium for scripts/screenshot.mjs and for the tests of the pages.
//
// It speaks the DevTools protocol over a pipe: JSON messages that end with a zero byte, written to the browser's file
// descriptor 3 and read from its 4. That needs no package and opens no port.
import { spawn } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";

const DEADLINE_MS = 30_000;
// The browser's answers to a question about a page that it has left meanwhile.
const LEFT = /Inspected target navigated or closed|Execution context was destroyed|Cannot find (default execution )?context/;

// Starts the browser at `path` with its data in the folder `profile`. This program ends if the browser does.
export async function open(path, profile, flags = []) {
  const args = ["--headless", "--remote-debugging-pipe", `--user-data-dir=${profile}`, "--disable-gpu", "--hide-scrollbars",
    "--no-proxy-server", ...flags, "about:blank"];
  // Root may not use the browser's own sandbox; the pages come from this machine.
  if (process.getuid?.() === 0) args.unshift("--no-sandbox");
  const child = spawn(path, args, { stdio: ["ignore", "ignore", "inherit", "pipe", "pipe"] });
  const fail = (reason) => {
    console.error(`browser: ${reason}`);
    child.removeAllListeners("exit");
    child.kill();
    process.exit(1);
  };
  child.on("error", (error) => fail(error.message));
  child.on("exit", (code) => fail(`it ended with ${code}`));

  const [input, output] = [child.stdio[3], child.stdio[4]];
  // A broken pipe means that the browser has ended, which its "exit" event reports.
  input.on("error", () => {});
  const waiting = new Map();
  const heard = [];
  let unread = Buffer.alloc(0);
  output.on("data", (chunk) => {
    unread = Buffer.concat([unread, chunk]);
    for (let end = unread.indexOf(0); end >= 0; end = unread.indexOf(0)) {
      const message = JSON.parse(unread.subarray(0, end).toString("utf8"));
      unread = unread.subarray(end + 1);
      if (message.method) heard.push(message);
      const answer = waiting.get(message.id);
      waiting.delete(message.id);
      if (message.error) answer?.reject(new Error(message.error.message));
      else answer?.resolve(message.result);
    }
  });
  let last = 0;
  const call = (method, params = {}, sessionId = undefined) => new Promise((resolve, reject) => {
    const id = ++last;
    waiting.set(id, { resolve, reject });
    input.write(JSON.stringify({ id, method, params, sessionId }) + "\0");
  });

  const { targetId } = await call("Target.createTarget", { url: "about:blank" });
  const { sessionId } = await call("Target.attachToTarget", { targetId, flatten: true });
  const page = (method, params) => call(method, params, sessionId);
  // The value of an expression in the page; a promise is awaited. An expression that leads to another page fails with
  // LEFT if the browser leaves the page before it answers, so navigation belongs into `leave`.
  const evaluate = async (expression) => {
    const { result, exceptionDetails } =
      await page("Runtime.evaluate", { expression, returnByValue: true, awaitPromise: true, userGesture: true });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  };
  const unlessLeft = (error) => {
    if (LEFT.test(error.message)) return null;
    throw error;
  };
  // Evaluates an expression that leads to another page.
  const leave = (expression) => evaluate(expression).catch(unlessLeft);
  // Waits until an expression is true, on this page or on the one that the browser is going to.
  const until = async (expression, ms = DEADLINE_MS) => {
    for (const end = Date.now() + ms; ; await sleep(50)) {
      const value = await evaluate(`(() => { try { return ${expression}; } catch { return null; } })()`).catch(unlessLeft);
      if (value) return value;
      if (Date.now() > end) throw new Error(`this did not become true: ${expression}\n${await evaluate("document.body.innerText")}`);
    }
  };
  const close = async () => {
    child.removeAllListeners("exit");
    // The profile folder can be removed only once the browser has ended.
    const ended = new Promise((resolve) => child.on("exit", resolve));
    await call("Browser.close");
    await ended;
  };
  return { page, evaluate, leave, until, close, heard };
}
