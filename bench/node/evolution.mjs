// A service shaped like Evolution's: POST /message/sendWhatsAppAudio/{instance} with the audio as base64 in JSON. It
// passes Ogg through to the address that it is given, and stores nothing.
//
//   node evolution.mjs URL
//
// Prints its address. No packages: what is measured is Node.
import { Agent, createServer, request as ask } from "node:http";

const upstream = new URL(process.argv[2]);
const agent = new Agent({ keepAlive: true, maxSockets: 64 });

function read(stream) {
  return new Promise((resolve, reject) => {
    const pieces = [];
    stream.on("data", (piece) => pieces.push(piece));
    stream.on("end", () => resolve(Buffer.concat(pieces)));
    stream.on("error", reject);
  });
}

function send(audio) {
  return new Promise((resolve, reject) => {
    const headers = { "content-type": "audio/ogg", "content-length": audio.length };
    const out = ask(upstream, { agent, method: "POST", headers }, (answer) => {
      read(answer).then(() => resolve(answer.statusCode), reject);
    });
    out.on("error", reject);
    out.end(audio);
  });
}

function answer(response, status, value) {
  const body = JSON.stringify(value);
  response.writeHead(status, { "content-type": "application/json", "content-length": Buffer.byteLength(body) });
  response.end(body);
}

let sent = 0;
const server = createServer(async (request, response) => {
  try {
    const { number, audio } = JSON.parse(await read(request));
    const bytes = Buffer.from(audio, "base64");
    if (bytes.subarray(0, 4).toString("latin1") !== "OggS") {
      return answer(response, 400, { status: 400, error: "Bad Request" });
    }
    await send(bytes);
    sent += 1;
    const key = { remoteJid: `${number}@s.whatsapp.net`, fromMe: true, id: `B${sent}` };
    answer(response, 201, { key, messageType: "audioMessage", status: "PENDING" });
  } catch (error) {
    answer(response, 500, { status: 500, error: String(error) });
  }
});

server.listen(0, "127.0.0.1", () => console.log(`127.0.0.1:${server.address().port}`));
