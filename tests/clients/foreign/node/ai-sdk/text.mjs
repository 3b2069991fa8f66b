// An answer over Responses, which is the package's default, and over chat completions.
import { openai } from "@ai-sdk/openai";
import { generateText } from "ai";

const asked = { system: "Be brief.", prompt: "Capital of France?", maxRetries: 0 };
const { text, reasoningText, usage } = await generateText({ model: openai("sonnet"), ...asked });
const chat = await generateText({ model: openai.chat("sonnet"), ...asked });
console.log(
  JSON.stringify({ text, reasoningText, output: usage.outputTokens, chat: chat.text }),
);
