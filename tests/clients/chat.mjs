// The npm `openai` client against a running node: prints one JSON object of what it got.
// usage: node chat.mjs BASE_URL API_KEY ENDPOINT
import OpenAI from "openai";

const [baseURL, apiKey, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const messages = [{ role: "user", content: "What is the capital of France?" }];
const ask = { model, messages, temperature: 0, max_tokens: 16 };

const whole = await client.chat.completions.create(ask);

let streamed = "";
let chunks = 0;
let finish = null;
for await (const chunk of await client.chat.completions.create({ ...ask, stream: true })) {
  chunks += 1;
  streamed += chunk.choices[0].delta.content ?? "";
  finish = chunk.choices[0].finish_reason ?? finish;
}

let usage = null;
for await (const chunk of await client.chat.completions.create({
  ...ask, stream: true, stream_options: { include_usage: true },
})) usage = chunk.usage ?? usage;

const question = { model, input: messages[0].content, temperature: 0, max_output_tokens: 16 };
const response = await client.responses.create(question);
let responseStreamed = "";
let responseUsage = null;
for await (const event of await client.responses.create({ ...question, stream: true })) {
  if (event.type === "response.output_text.delta") responseStreamed += event.delta;
  if (event.type === "response.completed") responseUsage = event.response.usage;
}

const models = [];
for await (const entry of client.models.list()) models.push(entry.id);

async function thrown(call) {
  try {
    await call();
    return null;
  } catch (error) {
    return { name: error.constructor.name, status: error.status, code: error.code, requestID: error.requestID };
  }
}
const stranger = new OpenAI({ baseURL, apiKey: "pareta_sk_wrong", maxRetries: 0 });

console.log(JSON.stringify({
  text: whole.choices[0].message.content,
  usageWhole: whole.usage,
  streamed, chunks, finish, usage, models, responseStreamed, responseUsage,
  response: response.output_text,
  errors: {
    key: await thrown(() => stranger.chat.completions.create(ask)),
    endpoint: await thrown(() => client.chat.completions.create({ ...ask, model: "ep_none" })),
    body: await thrown(() => client.chat.completions.create({ ...ask, messages: 7 })),
  },
}));
