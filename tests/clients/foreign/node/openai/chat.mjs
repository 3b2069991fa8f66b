// A chat, whole and streamed, with the history that the client keeps.
import OpenAI from "openai";

const client = new OpenAI({ maxRetries: 0 });
const messages = [
  { role: "system", content: "Be brief." },
  { role: "user", content: "My name is Ann." },
];
const first = await client.chat.completions.create({ model: "sonnet", messages });
messages.push(first.choices[0].message, { role: "user", content: "What is my name?" });

const stream = await client.chat.completions.create({
  model: "sonnet",
  messages,
  stream: true,
  stream_options: { include_usage: true },
});
const words = [];
let usage = null;
for await (const chunk of stream) {
  const word = chunk.choices[0]?.delta.content;
  if (word) words.push(word);
  usage = chunk.usage ?? usage;
}
console.log(JSON.stringify({ first: first.choices[0].message.content, words, usage }));
