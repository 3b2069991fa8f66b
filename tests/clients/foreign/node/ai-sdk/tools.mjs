// Tools, in as many steps as the model takes; whole and streamed.
import { openai } from "@ai-sdk/openai";
import { generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const asked = {
  model: openai("sonnet"),
  prompt: "Weather?",
  stopWhen: stepCountIs(5),
  tools: {
    weather: tool({
      description: "Tells the weather of a city.",
      inputSchema: z.object({ city: z.string() }),
      execute: async ({ city }) => ({ Oslo: "Rain", Rome: "Sun" })[city],
    }),
  },
};
const whole = await generateText(asked);
const streamed = streamText(asked);
const kinds = new Set();
for await (const part of streamed.fullStream) kinds.add(part.type);
const forced = await generateText({
  ...asked,
  stopWhen: stepCountIs(1),
  toolChoice: { type: "tool", toolName: "weather" },
});
console.log(
  JSON.stringify({
    answers: [whole.text, await streamed.text],
    steps: whole.steps.length,
    kinds: [...kinds],
    forced: forced.toolCalls.map((call) => call.input),
  }),
);
