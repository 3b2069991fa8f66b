// An answer as an object that a zod schema describes: over chat, streamed, and over Responses.
import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

const client = new OpenAI();
const Mood = z.object({ mood: z.enum(["calm", "cross"]) });
const asked = {
  model: "sonnet",
  messages: [{ role: "user", content: "How are you?" }],
  response_format: zodResponseFormat(Mood, "mood"),
};
const whole = await client.chat.completions.parse(asked);
const streamed = await client.chat.completions.stream(asked).finalChatCompletion();
const response = await client.responses.parse({
  model: "sonnet",
  input: "How are you?",
  text: { format: zodTextFormat(Mood, "mood") },
});
console.log(
  JSON.stringify([
    whole.choices[0].message.parsed,
    streamed.choices[0].message.parsed,
    response.output_parsed,
  ]),
);
