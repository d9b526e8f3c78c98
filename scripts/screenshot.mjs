// Opens a page in a headless Chromium, waits until every waveform on it is drawn, and saves the picture.
//
//   node scripts/screenshot.mjs BROWSER PROFILE_FOLDER URL PNG HEIGHT NOTES
//
// HEIGHT is that of the picture in CSS pixels; NOTES is the number of notes that the page must show.
import { writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

import { open } from "./browser.mjs";

const [path, profile, url, png, height, notes] = process.argv.slice(2);
const VIEW = { width: 1000, height: Number(height), deviceScaleFactor: 1.5, mobile: false };

// A waveform is drawn when a bar of it reaches the upper part of its canvas; until then it is a row of dots.
const DRAWN = `(() => {
  const waves = [...document.querySelectorAll("canvas.wave")];
  const reaches = (wave) => wave.width > 0 &&
    wave.getContext("2d").getImageData(0, Math.ceil(wave.height / 8), wave.width, 1).data.some((value) => value > 0);
  return waves.length >= ${Number(notes)} && waves.every(reaches);
})()`;

const { page, until, close } = await open(path, profile);
await page("Emulation.setDeviceMetricsOverride", VIEW);
await page("Page.navigate", { url });
await until(DRAWN);
// A new note fades in; let it finish.
await sleep(500);
const { data } = await page("Page.captureScreenshot", { format: "png" });
writeFileSync(png, Buffer.from(data, "base64"));
await close();
