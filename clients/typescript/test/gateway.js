/** A gateway with emulated providers, and a bot's webhook, as processes and servers of this test. */

import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createServer as createTcpServer, connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

export const KEY = `vg_${randomBytes(32).toString("base64url")}`;
export const SECRETS = [1, 2].map(() => `whsec_${randomBytes(32).toString("base64")}`);
/** Signs the callbacks of the provider. */
const CALLBACK_SECRET = randomBytes(32).toString("base64url");

const EXECUTABLE = process.env.VOICEGATE_EXECUTABLE ?? "voicegate";
const SAMPLE = new URL("../../../src/demo/sample.mp3", import.meta.url);
const RECORDING = new URL("../../../tests/fixtures/audio/recorder-wideband.ogg", import.meta.url);

export const sample = new Uint8Array(await readFile(SAMPLE));
export const samplePath = SAMPLE;
/** A voice note as a phone records it. */
export const recording = new Uint8Array(await readFile(RECORDING));

async function freePort() {
  const server = createTcpServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Waits until `condition` returns something. */
export async function eventually(what, condition, seconds = 60) {
  for (const end = Date.now() + seconds * 1000; ; ) {
    const found = await condition();
    if (found) return found;
    if (Date.now() > end) throw new Error(`waited in vain for: ${what}`);
    await sleep(50);
  }
}

export class Gateway {
  static async start() {
    const gateway = new Gateway();
    try {
      await gateway.#start();
    } catch (error) {
      await gateway.stop();
      throw error;
    }
    return gateway;
  }

  async #start() {
    this.folder = await mkdtemp(join(tmpdir(), "voicegate-client-"));
    this.webhooks = [];
    this.hook = createServer(async (request, response) => {
      const pieces = [];
      for await (const piece of request) pieces.push(piece);
      this.webhooks.push({ headers: request.headers, body: Buffer.concat(pieces) });
      response.writeHead(this.hookStatus ?? 204).end();
    }).listen(0, "127.0.0.1");
    await new Promise((resolve) => this.hook.once("listening", resolve));
    const [port, sandboxPort] = [await freePort(), await freePort()];
    this.url = `http://127.0.0.1:${port}`;
    this.port = port;
    this.sandboxUrl = `http://127.0.0.1:${sandboxPort}`;
    const { folder, sandboxUrl } = this;
    await writeFile(
      join(folder, "config.toml"),
      `
[server]
listen = "127.0.0.1:${port}"
public_url = "http://127.0.0.1:${port}"
[storage]
database = "sqlite://${folder}/voicegate.db"
media = "${folder}/media"
[fetch]
allow_http = true
allow_networks = ["127.0.0.0/8"]
[tenants.a]
api_keys = ["${KEY}"]
route = ["imessage"]
webhook = { url = "http://127.0.0.1:${this.hook.address().port}/hooks", secrets = ["${SECRETS.join('", "')}"] }
[tenants.a.connections.imessage]
provider = "linq"
base_url = "${sandboxUrl}/linq"
token = "sandbox-linq-token"
[tenants.a.connections.whatsapp]
provider = "wawp"
base_url = "${sandboxUrl}/wawp"
instance_id = "SANDBOX00001"
access_token = "sandbox-wawp-token"
[tenants.a.connections.waha]
provider = "waha"
base_url = "${sandboxUrl}/waha"
api_key = "sandbox-waha-key"
webhook_secret = "${CALLBACK_SECRET}"
[tenants.a.speech.anna]
kind = "openai"
base_url = "${sandboxUrl}/openai"
api_key = "sandbox-openai-key"
`,
    );
    this.sandbox = this.#run(["sandbox", "--listen", `127.0.0.1:${sandboxPort}`]);
    await this.serve();
    await eventually("the sandbox", () => fetch(`${sandboxUrl}/sandbox/ledger`).catch(() => undefined));
    const registration = this.#run(["callbacks", "--config", join(folder, "config.toml"), "register", "waha"]);
    if ((await registration.ended) !== 0) throw new Error(`the callbacks are not registered:\n${registration.said}`);
  }

  #run(args) {
    const child = spawn(EXECUTABLE, args, { cwd: this.folder, stdio: ["ignore", "ignore", "pipe"] });
    child.said = "";
    child.stderr.on("data", (piece) => (child.said += piece));
    child.ended = new Promise((resolve) => child.once("exit", resolve));
    return child;
  }

  async serve() {
    this.process = this.#run(["serve", "--config", join(this.folder, "config.toml")]);
    const ready = async () => {
      if (this.process.exitCode !== null) throw new Error(`the gateway ended:\n${this.process.said}`);
      return (await fetch(`${this.url}/readyz`).catch(() => undefined))?.ok;
    };
    await eventually("the gateway is ready", ready, 180);
  }

  /** Ends the gateway without any cleanup, as a crash does. */
  async kill() {
    this.process.kill("SIGKILL");
    await this.process.ended;
  }

  async stop() {
    for (const child of [this.process, this.sandbox]) {
      child?.kill("SIGKILL");
      await child?.ended;
    }
    this.hook.closeAllConnections();
    this.hook.close();
    await rm(this.folder, { recursive: true, force: true });
  }

  /** The next answer of a server: of the provider to a request that makes a note visible, unless another one is named. */
  async fault(action, { provider, operation } = { provider: "linq", operation: "voicememo" }) {
    await this.#order("faults", { provider, operation, action });
  }

  /** A person sends a voice note to the account of the connection `waha`. Returns the message. */
  async say(from) {
    const audio = Buffer.from(recording).toString("base64");
    return (await this.#order("inbound", { provider: "waha", from, sender_name: "Ann", audio })).json();
  }

  /** The messages that people have received. */
  async ledger() {
    return (await (await fetch(`${this.sandboxUrl}/sandbox/ledger`)).json()).items;
  }

  /** The requests that the emulated servers have received. */
  async requests() {
    return (await (await fetch(`${this.sandboxUrl}/sandbox/requests`)).json()).items;
  }

  async #order(what, order) {
    const headers = { "Content-Type": "application/json" };
    const answer = await fetch(`${this.sandboxUrl}/sandbox/${what}`, { method: "POST", body: JSON.stringify(order), headers });
    if (!answer.ok) throw new Error(await answer.text());
    return answer;
  }
}

/** A way to the gateway that breaks: it drops the answers to the first `drop` requests whose head begins with `head`. */
export class BrokenWay {
  requests = [];
  #sockets = new Set();

  constructor(port, head, drop) {
    this.server = createTcpServer((client) => {
      const gateway = connect(port, "127.0.0.1");
      let dropping = false;
      for (const socket of [client, gateway]) {
        this.#sockets.add(socket);
        socket.on("error", () => {});
        socket.on("close", () => [client, gateway].forEach((one) => one.destroy()));
      }
      client.on("data", (piece) => {
        const text = piece.toString("latin1");
        if (text.startsWith(head)) {
          dropping = this.requests.length < drop;
          this.requests.push(text.split("\r\n\r\n")[0]);
        }
        gateway.write(piece);
      });
      // The gateway has answered, so it has done what it was asked for.
      gateway.on("data", (piece) => (dropping ? client.destroy() : client.write(piece)));
    }).listen(0, "127.0.0.1");
  }

  async url() {
    if (!this.server.listening) await new Promise((resolve) => this.server.once("listening", resolve));
    return `http://127.0.0.1:${this.server.address().port}`;
  }

  close() {
    for (const socket of this.#sockets) socket.destroy();
    this.server.close();
  }
}

/** A server that gives these answers, one after the other: `[status, headers, body]`. */
export async function scripted(answers) {
  const requests = [];
  const server = createServer(async (request, response) => {
    for await (const _ of request);
    requests.push({ method: request.method, url: request.url, headers: request.headers, at: Date.now() });
    const [status, headers, body] = answers[Math.min(requests.length, answers.length) - 1];
    response.writeHead(status, headers).end(body);
  }).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const close = () => (server.closeAllConnections(), server.close());
  return { url: `http://127.0.0.1:${server.address().port}`, requests, close };
}
