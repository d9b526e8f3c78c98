// Linq's official SDK for TypeScript, pointed at voicegate: a voice memo to a chat that is looked up, from an upload and
// from an address. Prints the ids of the messages.
import { readFile } from "node:fs/promises";
import LinqAPIV3 from "@linqapp/sdk";

const { VOICEGATE_URL, VOICEGATE_API_KEY, TO, SPEECH, SPEECH_URL } = process.env;
const client = new LinqAPIV3({ apiKey: VOICEGATE_API_KEY, baseURL: `${VOICEGATE_URL}/compat/linq`, maxRetries: 0 });

const bytes = await readFile(SPEECH);
const upload = await client.attachments.create({
  filename: "speech.mp3",
  content_type: "audio/mpeg",
  size_bytes: bytes.length,
});
const { "Content-Length": _, ...headers } = upload.required_headers; // fetch writes it itself
const put = await fetch(upload.upload_url, { method: upload.http_method, headers, body: bytes });
if (!put.ok) throw new Error(`the upload was answered with ${put.status}: ${await put.text()}`);

const chats = await client.chats.listChats({ to: TO });
const chat = chats.chats[0];
const once = { headers: { "Idempotency-Key": `linq-${process.pid}` } };
for (const body of [{ attachment_id: upload.attachment_id }, { voice_memo_url: SPEECH_URL }]) {
  const sent = await client.chats.sendVoicememo(chat.id, body, body.attachment_id ? once : undefined);
  console.log(sent.voice_memo.id);
}
const again = await client.chats.sendVoicememo(chat.id, { attachment_id: upload.attachment_id }, once);
console.log(again.voice_memo.id);

const refused = await client.chats.create({
  from: "+12052535597",
  to: [TO],
  message: { parts: [{ type: "text", value: "Hello" }] },
}).catch((error) => error);
if (refused.status !== 422 || refused.error.error.code !== 1004) throw refused;
