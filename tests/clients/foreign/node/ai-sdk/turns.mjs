// A second turn: what was answered before is only referred to, since the server keeps it.
import { openai } from "@ai-sdk/openai";
import { generateText, stepCountIs, tool } from "ai";
import { z } from "zod";

const tools = {
  weather: tool({ inputSchema: z.object({ city: z.string() }), execute: async () => "Rain" }),
};
const messages = [{ role: "user", content: "one" }];
const asked = { model: openai("sonnet"), tools, stopWhen: stepCountIs(5) };
const first = await generateText({ ...asked, messages });
messages.push(...first.response.messages, { role: "user", content: "three" });
const second = await generateText({ ...asked, messages });

const going = await generateText({
  model: openai("sonnet"),
  prompt: "five",
  providerOptions: { openai: { previousResponseId: second.response.id } },
});
console.log(
  JSON.stringify({
    answers: [first.text, second.text, going.text],
    kinds: second.steps[0].request.body.input.map((item) => item.type ?? item.role),
  }),
);
