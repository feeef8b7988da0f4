// openai-node: chat, stream, runTools, parse; responses and its stream. Names begin with the API: the suites choose by it.
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";
import { zodFunction, zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

const client = new OpenAI({ maxRetries: 0 });
const model = process.env.WEIR_TEST_MODEL;
const texts = [1, 2, 3, 4].map((day) => `the weather in 'Oslo' on day ${day}`);
const Report = z.object({ city: z.string(), degrees: z.number() });
const said = (content) => [{ role: "user", content }];

for (const text of texts) {
  test(`chat: whole: ${text}`, async () => {
    const answer = await client.chat.completions.create({ model, messages: said(text) });
    assert.equal(answer.choices[0].message.content, `You said: ${text}`);
    assert.equal(answer.choices[0].finish_reason, "stop");
  });
  test(`chat: stream helper: ${text}`, async () => {
    const stream = client.chat.completions.stream({ model, messages: said(text), stream_options: { include_usage: true } });
    let pieces = "";
    stream.on("content", (delta) => (pieces += delta));
    const done = await stream.finalChatCompletion();
    assert.equal(done.choices[0].message.content, `You said: ${text}`);
    assert.equal(pieces, `You said: ${text}`);
    assert.ok(done.usage.total_tokens > 0);
  });
  test(`chat: parse: ${text}`, async () => {
    const asked = { model, messages: said(text), response_format: zodResponseFormat(Report, "report") };
    assert.equal((await client.chat.completions.parse(asked)).choices[0].message.parsed.city, "Oslo");
    const streamed = await client.chat.completions.stream(asked).finalChatCompletion();
    assert.equal(streamed.choices[0].message.parsed.city, "Oslo");
  });
  for (const stream of [false, true]) {
    test(`chat: runTools ${stream}: ${text}`, async () => {
      const asked = [];
      const tool = zodFunction({
        name: "get_weather",
        parameters: z.object({ city: z.string() }),
        function: ({ city }) => (asked.push(city), `rain in ${city}`),
      });
      const runner = client.chat.completions.runTools({ model, stream, messages: said(text), tools: [tool] });
      assert.equal(await runner.finalContent(), "The tool said: rain in Oslo");
      assert.deepEqual(asked, ["Oslo"]);
    });
  }
  test(`responses: whole and parsed: ${text}`, async () => {
    const answer = await client.responses.create({ model, input: text });
    assert.equal(answer.output_text, `You said: ${text}`);
    const typed = await client.responses.parse({ model, input: text, text: { format: zodTextFormat(Report, "report") } });
    assert.equal(typed.output_parsed.city, "Oslo");
  });
  test(`responses: stream helper: ${text}`, async () => {
    const stream = client.responses.stream({ model, input: text });
    let pieces = "";
    stream.on("response.output_text.delta", (event) => (pieces += event.delta));
    const done = await stream.finalResponse();
    assert.equal(pieces, `You said: ${text}`);
    assert.equal(done.output_text, `You said: ${text}`);
  });
}

test("chat: errors are typed", async () => {
  await assert.rejects(client.chat.completions.create({ model: "nobody", messages: said("hello") }), OpenAI.NotFoundError);
  await assert.rejects(client.chat.completions.create({ model, messages: [] }), OpenAI.BadRequestError);
});
