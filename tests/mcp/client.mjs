// A client of the Model Context Protocol's own TypeScript SDK: connects, lists the tools, makes the calls that stand on
// standard input as JSON, one after the other, and prints what it got.
//
//   node client.mjs SDK http URL KEY
//   node client.mjs SDK stdio COMMAND ARGUMENTS...
import { pathToFileURL } from "node:url";

const [sdk, kind, ...rest] = process.argv.slice(2);
const load = (name) => import(pathToFileURL(`${sdk}/dist/esm/${name}.js`).href);
const { Client } = await load("client/index");

async function transport() {
  if (kind === "http") {
    const { StreamableHTTPClientTransport } = await load("client/streamableHttp");
    const [url, key] = rest;
    return new StreamableHTTPClientTransport(new URL(url), {
      requestInit: { headers: { Authorization: `Bearer ${key}` } },
    });
  }
  const { StdioClientTransport } = await load("client/stdio");
  const [command, ...args] = rest;
  return new StdioClientTransport({ command, args, env: process.env });
}

let input = "";
for await (const piece of process.stdin) input += piece;

const client = new Client({ name: "test", version: "1.0.0" });
await client.connect(await transport());
const { tools } = await client.listTools();
const results = [];
for (const call of JSON.parse(input)) {
  results.push(await client.callTool(call, undefined, { timeout: 90_000 }).catch((error) => ({ failed: String(error) })));
}
console.log(JSON.stringify({
  server: client.getServerVersion(),
  instructions: client.getInstructions(),
  tools,
  results,
}));
await client.close();
process.exit(0);
