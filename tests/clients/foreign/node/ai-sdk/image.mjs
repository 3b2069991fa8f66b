// An image beside the text.
import { openai } from "@ai-sdk/openai";
import { generateText } from "ai";

const image =
  "data:image/gif;base64,R0lGODlhAQABAPAAAP8AAAAAACH5BAAAAAAALAAAAAABAAEAAAICRAEAOw==";
const content = [
  { type: "text", text: "What is it?" },
  { type: "image", image },
];
const { text } = await generateText({
  model: openai("sonnet"),
  messages: [{ role: "user", content }],
});
console.log(JSON.stringify(text));
