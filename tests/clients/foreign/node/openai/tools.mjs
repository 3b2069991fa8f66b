// Tools that the client runs until the model has its answer; streamed or not.
import OpenAI from "openai";

const client = new OpenAI();
const weather = {
  type: "function",
  function: {
    name: "weather",
    description: "Tells the weather of a city.",
    parameters: {
      type: "object",
      properties: { city: { type: "string" } },
      required: ["city"],
    },
    parse: JSON.parse,
    function: ({ city }) => ({ Oslo: "Rain", Rome: "Sun" })[city],
  },
};
const answers = [];
for (const stream of [false, true]) {
  const runner = client.chat.completions.runTools({
    model: "sonnet",
    stream,
    messages: [{ role: "user", content: "Weather?" }],
    tools: [weather],
  });
  answers.push(await runner.finalContent());
}
const forced = await client.chat.completions.create({
  model: "sonnet",
  messages: [{ role: "user", content: "Hello" }],
  tools: [{ type: "function", function: { ...weather.function, parse: undefined } }],
  tool_choice: { type: "function", function: { name: "weather" } },
});
const [call] = forced.choices[0].message.tool_calls;
console.log(JSON.stringify({ answers, forced: call.function }));
