// Responses: streamed, gone on from, with a function; and a conversation that the server keeps.
import OpenAI from "openai";

const client = new OpenAI();
const words = [];
let first = null;
for await (const event of await client.responses.create({
  model: "sonnet",
  input: "Weather?",
  stream: true,
  tools: [
    {
      type: "function",
      name: "weather",
      parameters: { type: "object", properties: { city: { type: "string" } } },
    },
  ],
})) {
  if (event.type === "response.output_text.delta") words.push(event.delta);
  if (event.type === "response.completed") first = event.response;
}
const calls = first.output.filter((item) => item.type === "function_call");
const second = await client.responses.create({
  model: "sonnet",
  previous_response_id: first.id,
  input: calls.map(({ call_id }) => ({
    type: "function_call_output",
    call_id,
    output: "Rain",
  })),
});

const conversation = await client.conversations.create({ metadata: { topic: "weather" } });
for (const input of ["one", "three"]) {
  await client.responses.create({ model: "sonnet", input, conversation: conversation.id });
}
const said = [];
for await (const item of client.conversations.items.list(conversation.id, { order: "asc" })) {
  said.push(item.content[0].text);
}
console.log(
  JSON.stringify({
    words,
    calls: calls.map((call) => JSON.parse(call.arguments)),
    answer: second.output_text,
    said,
  }),
);
