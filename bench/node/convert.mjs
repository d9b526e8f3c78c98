// A service such as many bots have: every body goes through an ffmpeg of its own, in and out by pipes.
//
//   node convert.mjs FFMPEG OPTIONS...
//
// Prints its address. No packages: what is measured is Node, and ffmpeg.
import { spawn } from "node:child_process";
import { createServer } from "node:http";

const [ffmpeg, ...options] = process.argv.slice(2);

const server = createServer((request, response) => {
  const child = spawn(ffmpeg, options, { stdio: ["pipe", "pipe", "ignore"] });
  const made = [];
  child.stdout.on("data", (bytes) => made.push(bytes));
  child.stdin.on("error", () => {}); // it may have read enough
  child.on("close", (code) => {
    const body = Buffer.concat(made);
    response.writeHead(code === 0 ? 200 : 500, { "content-type": "audio/ogg", "content-length": body.length });
    response.end(body);
  });
  request.pipe(child.stdin);
});

server.listen(0, "127.0.0.1", () => console.log(`127.0.0.1:${server.address().port}`));
