// Each word as it comes.
import { openai } from "@ai-sdk/openai";
import { streamText } from "ai";

const { textStream } = streamText({ model: openai("sonnet"), prompt: "Count" });
for await (const word of textStream) {
  console.log(word);
}
