// Vercel's AI SDK: @ai-sdk/openai (chat and responses) and @ai-sdk/openai-compatible. Names begin with the API.
import assert from "node:assert/strict";
import { test } from "node:test";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, Output, isStepCount, streamText, tool } from "ai";
import { z } from "zod";

const baseURL = process.env.OPENAI_BASE_URL;
const name = process.env.WEIR_TEST_MODEL;
const openai = createOpenAI({ baseURL, apiKey: "none" });
const compatible = createOpenAICompatible({ name: "weir", baseURL, apiKey: "none", includeUsage: true, supportsStructuredOutputs: true });
const models = { "chat: openai": openai.chat(name), "chat: compatible": compatible(name), "responses: openai": openai(name) };
const texts = [1, 2, 3, 4].map((day) => `the weather in 'Oslo' on day ${day}`);
const get_weather = tool({
  description: "The weather of a city.",
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => `rain in ${city}`,
});
const report = Output.object({ schema: z.object({ city: z.string() }) });

for (const [api, model] of Object.entries(models)) {
  for (const prompt of texts) {
    test(`${api}: generateText: ${prompt}`, async () => {
      const found = await generateText({ model, prompt, maxRetries: 0 });
      assert.equal(found.text, `You said: ${prompt}`);
      assert.ok(found.usage.totalTokens > 0);
    });
    test(`${api}: streamText: ${prompt}`, async () => {
      const found = streamText({ model, prompt, maxRetries: 0, onError: ({ error }) => { throw error; } });
      let pieces = "";
      for await (const piece of found.textStream) pieces += piece;
      assert.equal(pieces, `You said: ${prompt}`);
      assert.equal(await found.finishReason, "stop");
    });
    test(`${api}: object: ${prompt}`, async () => {
      const found = await generateText({ model, prompt, output: report, maxRetries: 0 });
      assert.equal(found.output.city, "Oslo");
    });
    test(`${api}: tools, streamed: ${prompt}`, async () => {
      const found = streamText({ model, prompt, tools: { get_weather }, stopWhen: isStepCount(3), maxRetries: 0 });
      const calls = [];
      for await (const part of found.fullStream) if (part.type === "tool-call") calls.push(part.input);
      assert.deepEqual(calls, [{ city: "Oslo" }]);
      assert.match(await found.text, /rain in Oslo/);
    });
  }
}
