// Looks in the console for one recipient among 100,000 notes, from +16660000001 to +16660100000.
//
//   node tests/pages/many.mjs BROWSER PROFILE_FOLDER GATEWAY SANDBOX KEY AXE PICTURES
import assert from "node:assert/strict";

import { open } from "../../scripts/browser.mjs";

const [path, profile, gateway, , key] = process.argv.slice(2);
const { page, evaluate, until, close } = await open(path, profile);
const notes = () => evaluate(`[...document.querySelectorAll(".note")].map((each) => each.innerText)`);
const search = (words) => evaluate(`(() => {
  document.getElementById("find").value = ${JSON.stringify(words)};
  document.getElementById("filter").requestSubmit();
})()`);

await page("Runtime.enable");
await page("Page.navigate", { url: `${gateway}/console` });
await until(`document.getElementById("key")`);
await evaluate(`document.getElementById("key").value = ${JSON.stringify(key)}`);
await evaluate(`document.getElementById("login").querySelector("form").requestSubmit()`);
await until(`document.getElementById("login").hidden && document.querySelectorAll(".note").length >= 20`);
const all = (await notes()).length;
assert(all <= 200, `the page shows ${all} notes at once`);

const took = [];
for (const number of [1, 4711, 100_000]) {
  const to = `+1666${String(number).padStart(7, "0")}`;
  const begun = Date.now();
  await search(to);
  await until(`document.getElementById("notes-said").innerText === "1 found" && document.querySelector(".note").innerText.includes(${JSON.stringify(to)})`);
  took.push(Date.now() - begun);
  assert.equal((await notes()).length, 1);
}
await search("+16669999999");
await until(`document.body.innerText.includes("No note matches.") && document.querySelectorAll(".note").length === 0`);
console.log(`found within ${took.join(", ")} ms`);
await close();
