// Uses the documentation as a reader does: searches, copies, follows the contents, on a wide screen and on a phone.
//
//   node tests/pages/docs.mjs BROWSER PROFILE_FOLDER GATEWAY SANDBOX KEY AXE PICTURES
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { open } from "../../scripts/browser.mjs";

const [path, profile, gateway, sandbox, , axe, pictures] = process.argv.slice(2);
const browser = await open(path, profile);
const { page, evaluate, leave, until } = browser;

const go = async (url) => {
  await page("Page.navigate", { url });
  await until(`document.readyState === "complete" && location.href === ${JSON.stringify(url)}`);
};
const picture = async (name) => {
  const { data } = await page("Page.captureScreenshot", { format: "png" });
  writeFileSync(join(pictures, `${name}.png`), Buffer.from(data, "base64"));
};
const accessible = async (where, schemes = ["light", "dark"]) => {
  for (const scheme of schemes) {
    await page("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }] });
    await evaluate(readFileSync(axe, "utf8"));
    const found = await evaluate(`axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] })
      .then(({ violations }) => violations.map(({ id, nodes }) => id + ": " + nodes.slice(0, 3).map(({ html }) => html).join(" ")))`);
    assert.deepEqual(found, [], `accessibility of ${where}, ${scheme}`);
    await picture(`${where}-${scheme}`);
  }
};

await page("Runtime.enable");
await page("Log.enable");
await page("Emulation.setDeviceMetricsOverride", { width: 1500, height: 900, deviceScaleFactor: 1, mobile: false });

// The contents have a column that stays while the page scrolls.
await go(`${gateway}/docs/http`);
assert(await evaluate(`document.querySelector(".contents").open`));
const top = () => evaluate(`Math.round(document.querySelector(".contents").getBoundingClientRect().top)`);
await evaluate("scrollTo(0, 3000)");
await until("scrollY > 2000");
const first = await top();
await evaluate("scrollTo(0, 6000)");
await until("scrollY > 5000");
assert.equal(await top(), first);
await accessible("docs");

// "/" leads into the search; the first result of a code is its section.
await page("Input.dispatchKeyEvent", { type: "keyDown", key: "/", code: "Slash", text: "/", windowsVirtualKeyCode: 191 });
await until(`document.activeElement.id === "search"`);
await page("Input.insertText", { text: "quota_exceeded" });
await until(`document.querySelector("#results a")`);
assert.equal(await evaluate(`document.querySelector("#results a").getAttribute("href")`), "/docs/errors#quota_exceeded");
await accessible("docs-search");
await leave(`document.querySelector(".search").requestSubmit()`);
await until(`location.pathname === "/docs/errors" && location.hash === "#quota_exceeded"`);

// An example is copied whole.
await page("Browser.grantPermissions", { permissions: ["clipboardReadWrite", "clipboardSanitizedWrite"] });
await go(`${gateway}/docs/errors`);
await go(`${gateway}/docs`);
await until(`document.querySelector(".copy")`);
await evaluate(`document.querySelector(".copy").click()`);
await until(`document.querySelector(".copy").textContent === "Copied"`);

// A wrong address is a page that leads on.
await go(`${gateway}/docs/nowhere`);
assert.match(await evaluate("document.querySelector('main h1').innerText"), /no such page/);
await accessible("docs-absent");

// Every other page, too: a table or a link of one page may be unlike those of the first.
await go(`${gateway}/docs`);
const pages = await evaluate(`[...new Set([...document.querySelectorAll("nav a")].map(({ href }) => href))]
  .filter((href) => new URL(href).pathname.startsWith("/docs/"))`);
assert(pages.length > 5, `the navigation has pages: ${pages}`);
for (const address of pages) {
  await go(address);
  for (const language of ["sh", "python", "ts"]) {
    await evaluate(`document.querySelector("#in-${language}").checked = true`);
    const shown = await evaluate(`[...document.querySelectorAll(".tabs")]
      .map((tabs) => [...tabs.querySelectorAll(".tab")].filter((tab) => tab.offsetHeight > 0).length)`);
    assert(shown.every((count) => count === 1), `each example of ${address} is shown once for ${language}: ${shown}`);
  }
  await accessible(address.replace(/.*\//, "page-"), ["light"]);
}

// A phone shows the pages without scrolling sideways.
await page("Emulation.setDeviceMetricsOverride", { width: 360, height: 740, deviceScaleFactor: 2, mobile: true });
for (const name of ["http", "operations", "api"]) {
  await go(`${gateway}/docs/${name}`);
  assert(await evaluate("document.documentElement.scrollWidth <= innerWidth"), `${name} is too wide for a phone`);
}

// The inbox of the sandbox.
await page("Emulation.setDeviceMetricsOverride", { width: 1100, height: 900, deviceScaleFactor: 1, mobile: false });
await go(`${sandbox}/`);
await until(`document.querySelectorAll(".note").length >= 2`);
await page("Emulation.setEmulatedMedia", { features: [{ name: "prefers-reduced-motion", value: "reduce" }] });
await accessible("inbox");

const wrong = browser.heard.filter(({ method, params }) => method === "Runtime.exceptionThrown"
  || (method === "Log.entryAdded" && params.entry.level === "error" && !/404/.test(params.entry.text)));
assert.deepEqual(wrong.map(({ params }) => params.entry?.text ?? params.exceptionDetails?.exception?.description), []);
await browser.close();
