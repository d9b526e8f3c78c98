// The request code of n8n's node for Evolution, pointed at voicegate. n8n itself is not needed: the node gets its
// parameters and credentials from an object, and sends its requests with a helper. Prints the ids of the messages.
import { readFile } from "node:fs/promises";
import Module, { createRequire } from "node:module";

const { VOICEGATE_URL, VOICEGATE_API_KEY, INSTANCE, TO, SPEECH, SPEECH_URL } = process.env;

// The node takes one class of n8n's own packages, for errors.
const load = Module._load;
Module._load = (name, ...rest) =>
  name === "n8n-workflow" ? { NodeOperationError: class extends Error {
    constructor(_node, message) { super(message); }
  } } : load(name, ...rest);

const require = createRequire(import.meta.url);
const node = "n8n-nodes-evolution-api/dist/nodes/EvolutionApi/execute";
const { sendAudio } = require(`${node}/messages/sendAudio.js`);
const { checkNumber } = require(`${node}/chat/checkNumber.js`);
const { EvolutionApi } = require("n8n-nodes-evolution-api/dist/credentials/EvolutionApi.credentials.js");

const credentials = { "server-url": `${VOICEGATE_URL}/compat/evolution`, apikey: VOICEGATE_API_KEY };

// As n8n's helper: an answer that is no success is an error.
async function request({ method, headers, uri, body }) {
  const answer = await fetch(uri, {
    method,
    headers: { "Content-Type": "application/json", ...headers },
    body: body && JSON.stringify(body),
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${answer.status} - ${text}`);
  return JSON.parse(text);
}

const run = (parameters) => ({
  getNodeParameter: (name, _index, otherwise) => parameters[name] ?? otherwise,
  getCredentials: async () => credentials,
  getNode: () => ({}),
  continueOnFail: () => false,
  helpers: { request },
});

// The test of the credentials, as the node describes it.
const { method } = new EvolutionApi().test.request;
const instances = await request({ method, headers: { apikey: VOICEGATE_API_KEY }, uri: `${credentials["server-url"]}/instance/fetchInstances` });
if (!instances.some((instance) => instance.name === INSTANCE)) throw new Error(JSON.stringify(instances));

const known = await checkNumber(run({ instanceName: INSTANCE, numbers: TO.replace("+", "") }));
if (!known.json.data[0].exists) throw new Error(JSON.stringify(known));

for (const media of [(await readFile(SPEECH)).toString("base64"), SPEECH_URL]) {
  const sent = await sendAudio(run({
    instanceName: INSTANCE,
    remoteJid: TO.replace("+", ""),
    media,
    options_message: {},
  }));
  console.log(sent.json.data.key.id);
}
