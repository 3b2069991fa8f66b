// Each word as it comes.
import OpenAI from "openai";

const client = new OpenAI();
const stream = client.chat.completions.stream({
  model: "sonnet",
  messages: [{ role: "user", content: "Count" }],
});
for await (const chunk of stream) {
  const word = chunk.choices[0]?.delta.content;
  if (word) console.log(word);
}
