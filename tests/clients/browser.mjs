// The npm `openai` client in a page of a real Chromium, against a running node: prints one JSON object of what it got.
// usage: node browser.mjs BASE_URL API_KEY ENDPOINT PAGE_PORT
// The page at http://127.0.0.1:PAGE_PORT is of the node's `front.cors_origins`, the same at http://localhost is not.
import { createReadStream, existsSync } from "node:fs";
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const [baseURL, apiKey, model, port] = process.argv.slice(2);
const modules = fileURLToPath(new URL("node_modules", import.meta.url));
const site = createServer((request, response) => {
  const file = modules + request.url;
  const isScript = /^\/openai\/[\w/.-]+\.m?js$/.test(request.url) && existsSync(file);
  response.setHeader("content-type", isScript ? "text/javascript" : "text/html");
  if (isScript) createReadStream(file).pipe(response);
  else response.end("<!doctype html><title>page</title>");
}).listen(Number(port), "127.0.0.1");

async function inPage({ baseURL, apiKey, model }) {
  const { default: OpenAI } = await import("/openai/index.mjs");
  const made = (key) => new OpenAI({ baseURL, apiKey: key, maxRetries: 0, dangerouslyAllowBrowser: true });
  const client = made(apiKey);
  const thrown = async (call) => {
    try {
      await call();
      return null;
    } catch (error) {
      return { name: error.constructor.name, status: error.status, code: error.code, requestID: error.requestID };
    }
  };
  const ask = { model, messages: [{ role: "user", content: "What is the capital of France?" }], max_tokens: 16 };
  const seen = { failed: await thrown(() => client.chat.completions.create(ask)) };
  if (seen.failed) return seen;
  const { data, request_id } = await client.chat.completions.create(ask).withResponse();
  seen.text = data.choices[0].message.content;
  seen.requestID = request_id;
  seen.streamed = "";
  for await (const chunk of await client.chat.completions.create({ ...ask, stream: true }))
    seen.streamed += chunk.choices[0]?.delta.content ?? "";
  seen.models = (await client.models.list()).data.map((each) => each.id);
  seen.key = await thrown(() => made("pareta_sk_wrong").chat.completions.create(ask));
  seen.body = await thrown(() => client.chat.completions.create({ ...ask, messages: 7 }));
  return seen;
}

const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const seen = {};
for (const host of ["127.0.0.1", "localhost"]) {
  const page = await browser.newPage();
  await page.goto(`http://${host}:${port}/`);
  seen[host] = await page.evaluate(inPage, { baseURL, apiKey, model });
}
await browser.close();
site.close();
console.log(JSON.stringify(seen));
