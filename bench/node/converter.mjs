// Evolution's external converter, as a service in Node: POST /process-audio with a form that has `file` or `base64`, and
// the answer {duration, format, audio} with the audio as base64. Every request goes through an ffmpeg of its own, with the
// options of https://github.com/EvolutionAPI/evolution-audio-converter/blob/3feb0c7/main.go.
//
//   node converter.mjs FFMPEG
//
// Prints its address. No packages: what is measured is Node, and ffmpeg.
import { spawn } from "node:child_process";
import { createServer } from "node:http";

const ffmpeg = process.argv[2];
const options = ["-i", "pipe:0", "-ac", "1", "-ar", "16000", "-c:a", "libopus", "-f", "ogg", "pipe:1"];

function read(stream) {
  return new Promise((resolve, reject) => {
    const pieces = [];
    stream.on("data", (piece) => pieces.push(piece));
    stream.on("end", () => resolve(Buffer.concat(pieces)));
    stream.on("error", reject);
  });
}

/** The parts of a form by name. */
function parts(body, kind) {
  const boundary = /boundary="?([^";]+)"?/.exec(kind)?.[1];
  const mark = Buffer.from(`--${boundary}`);
  const found = new Map();
  for (let at = body.indexOf(mark); at >= 0; ) {
    const next = body.indexOf(mark, at + mark.length);
    if (next < 0) break;
    const part = body.subarray(at + mark.length + 2, next - 2);
    const head = part.indexOf("\r\n\r\n");
    const name = /name="([^"]*)"/.exec(part.subarray(0, head).toString("latin1"))?.[1];
    found.set(name, part.subarray(head + 4));
    at = next;
  }
  return found;
}

function convert(audio) {
  return new Promise((resolve, reject) => {
    const child = spawn(ffmpeg, options, { stdio: ["pipe", "pipe", "pipe"] });
    const made = [];
    let said = "";
    child.stdout.on("data", (bytes) => made.push(bytes));
    child.stderr.on("data", (text) => (said += text));
    child.stdin.on("error", () => {}); // it may have read enough
    child.on("error", reject);
    child.on("close", (code) => {
      if (code !== 0) return reject(new Error(said.slice(-200)));
      // The converter reads the length from what ffmpeg says last.
      const [, hours, minutes, seconds] = [...said.matchAll(/time=(\d+):(\d+):(\d+)/g)].pop() ?? [0, 0, 0, 0];
      resolve({ audio: Buffer.concat(made), duration: Number(hours) * 3600 + Number(minutes) * 60 + Number(seconds) });
    });
    child.stdin.end(audio);
  });
}

const server = createServer(async (request, response) => {
  try {
    const form = parts(await read(request), request.headers["content-type"] ?? "");
    const audio = form.get("file") ?? Buffer.from(form.get("base64").toString("latin1"), "base64");
    const made = await convert(audio);
    const body = JSON.stringify({ duration: made.duration, format: "ogg", audio: made.audio.toString("base64") });
    response.writeHead(200, { "content-type": "application/json", "content-length": Buffer.byteLength(body) });
    response.end(body);
  } catch (error) {
    const body = JSON.stringify({ error: String(error) });
    response.writeHead(500, { "content-type": "application/json", "content-length": Buffer.byteLength(body) });
    response.end(body);
  }
});

server.listen(0, "127.0.0.1", () => console.log(`127.0.0.1:${server.address().port}`));
