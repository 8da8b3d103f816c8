// Drives the official npm client of OpenAI against a gateway; prints what it saw as one JSON object.
// node driver.mjs FOLDER_WITH_NODE_MODULES BASE_URL KEY
import { pathToFileURL } from "node:url";

const [folder, baseURL, apiKey] = process.argv.slice(2);
const { default: OpenAI, AzureOpenAI, toFile } = await import(
  pathToFileURL(`${folder}/node_modules/openai/index.mjs`).href
);
const client = new OpenAI({ baseURL: `${baseURL}/v1`, apiKey, maxRetries: 0 });
const ask = { model: "demo", messages: [{ role: "user", content: "hi" }] };
const tools = [{ type: "function", function: { name: "get_time", parameters: { type: "object" } } }];
const mock = (orders) => ({ headers: { "x-mock": orders } });

async function text(stream) {
  let all = "";
  for await (const chunk of stream) all += chunk.choices[0]?.delta.content ?? "";
  return all;
}

// The error of a call that has to fail, as an application sees it.
async function failure(call) {
  try {
    await call();
  } catch (error) {
    return {
      name: error.constructor.name,
      isApiError: error instanceof OpenAI.APIError,
      status: error.status ?? null,
      code: error.code ?? null,
      type: error.type ?? null,
      param: error.param ?? null,
      requestID: error.requestID ?? null,
      message: error.message,
    };
  }
  return null;
}

const scenarios = {
  async chat() {
    const { data, request_id: id } = await client.chat.completions.create(ask).withResponse();
    return { content: data.choices[0].message.content, usage: data.usage, id };
  },
  async stream() {
    const stream = await client.chat.completions.create({ ...ask, stream: true });
    let content = "";
    let usages = 0;
    for await (const chunk of stream) {
      content += chunk.choices[0].delta.content ?? "";
      usages += "usage" in chunk ? 1 : 0;
    }
    return { content, usages };
  },
  async stream_with_usage() {
    const options = { stream: true, stream_options: { include_usage: true } };
    const run = client.chat.completions.stream({ ...ask, ...options });
    const final = await run.finalChatCompletion();
    return { content: final.choices[0].message.content, usage: final.usage };
  },
  async tools() {
    const chat = await client.chat.completions.create({ ...ask, tools, tool_choice: "required" });
    return chat.choices[0].message.tool_calls[0].function;
  },
  async streamed_tools() {
    const run = client.chat.completions.stream({ ...ask, tools, tool_choice: "required" });
    const final = await run.finalChatCompletion();
    const { name, arguments: given } = final.choices[0].message.tool_calls[0].function;
    return { name, arguments: given };
  },
  async vision() {
    const url = `data:image/png;base64,${"A".repeat(100000)}`;
    const parts = [{ type: "text", text: "what?" }, { type: "image_url", image_url: { url } }];
    const chat = await client.chat.completions.create({ ...ask, messages: [{ role: "user", content: parts }] });
    return chat.choices[0].message.content;
  },
  async embeddings() {
    const packed = await client.embeddings.create({ model: "demo", input: ["one", "two"] });
    const plain = await client.embeddings.create({ model: "demo", input: ["one", "two"], encoding_format: "float" });
    const near = (a, b) => a.length === b.length && a.every((x, n) => Math.abs(x - b[n]) < 1e-6);
    return packed.data.map((each, n) => near(Array.from(each.embedding), plain.data[n].embedding));
  },
  async responses() {
    const whole = await client.responses.create({ model: "demo", input: "hi" });
    const kinds = [];
    for await (const event of await client.responses.create({ model: "demo", input: "hi", stream: true })) {
      kinds.push(event.type);
    }
    return { text: whole.output_text, first: kinds[0], last: kinds.at(-1) };
  },
  async models() {
    const names = [];
    for await (const model of client.models.list()) names.push(model.id);
    return names;
  },
  async files() {
    const made = await client.files.create({ file: await toFile(Buffer.from("line\n"), "a.jsonl"), purpose: "batch" });
    return { bytes: made.bytes, content: await (await client.files.content(made.id)).text() };
  },
  async azure() {
    const azure = new AzureOpenAI({ endpoint: baseURL, apiKey, apiVersion: "2025-01-01-preview", maxRetries: 0 });
    return (await azure.chat.completions.create(ask)).choices[0].message.content;
  },
  async left_stream() {
    const stream = await client.chat.completions.create({ ...ask, stream: true }, mock("tokens=1000,gap=20"));
    for await (const chunk of stream) if (chunk.choices[0].delta.content?.includes("tok2")) break;
    return "left";
  },
  wrong_key: () => failure(() => client.withOptions({ apiKey: "wrong" }).chat.completions.create(ask)),
  forbidden: () => failure(() => client.chat.completions.create({ ...ask, model: "secret" })),
  unknown_model: () => failure(() => client.chat.completions.create({ ...ask, model: "gone" })),
  bad_request: () => failure(() => client.chat.completions.create(ask, mock("status=400"))),
  rate_limit: () => failure(() => client.chat.completions.create(ask, mock("status=429"))),
  server_error: () => failure(() => client.chat.completions.create({ ...ask, stream: true }, mock("status=500"))),
  first_event: () => failure(() => client.chat.completions.create({ ...ask, stream: true }, mock("error_after=0"))),
  broken_stream: () =>
    failure(async () => text(await client.chat.completions.create({ ...ask, stream: true }, mock("error_after=3")))),
  cut_stream: () =>
    failure(async () => text(await client.chat.completions.create({ ...ask, stream: true }, mock("rst_after=3")))),
  async retried() {
    const patient = client.withOptions({ maxRetries: 2 });
    const begun = performance.now();
    const chat = await patient.chat.completions.create(ask, mock("seq=429|200,retry_after_ms=200"));
    return { content: chat.choices[0].message.content, waited: performance.now() - begun };
  },
};

const seen = {};
for (const [name, scenario] of Object.entries(scenarios)) {
  try {
    seen[name] = await scenario();
  } catch (error) {
    seen[name] = { unexpected: String(error.stack) };
  }
}
console.log(JSON.stringify(seen));
