// The AI SDK against a running node, one call each: prints what each of them got as one JSON object.
// usage: node agents.mjs BASE_URL API_KEY ENDPOINT
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { Output, generateText, jsonSchema, streamText, tool } from "ai";

const [baseURL, apiKey, model] = process.argv.slice(2);
const provider = createOpenAICompatible({ name: "pareta", baseURL, apiKey, supportsStructuredOutputs: true });
const ask = { model: provider(model), prompt: "Will it rain in Oslo?", temperature: 0, maxRetries: 0 };
const inputSchema = jsonSchema({
  type: "object",
  properties: { country: { enum: ["France", "Norway"] }, capital: { type: "boolean" } },
  required: ["country", "capital"],
  additionalProperties: false,
});
const output = Output.object({ schema: inputSchema });
const tools = { weather: tool({ description: "Looks up the weather.", inputSchema }) };

const object = await generateText({ ...ask, output });
const streamed = streamText({ ...ask, output });
const called = await generateText({ ...ask, tools, toolChoice: "required" });
console.log(JSON.stringify({
  schema: object.output,
  streamed: await streamed.output,
  tool: called.toolCalls[0]?.input,
}));
