// An image beside the text.
import OpenAI from "openai";

const url =
  "data:image/gif;base64,R0lGODlhAQABAPAAAP8AAAAAACH5BAAAAAAALAAAAAABAAEAAAICRAEAOw==";
const client = new OpenAI();
const answer = await client.chat.completions.create({
  model: "sonnet",
  messages: [
    {
      role: "user",
      content: [
        { type: "text", text: "What is it?" },
        { type: "image_url", image_url: { url } },
      ],
    },
  ],
});
const models = await client.models.list();
console.log(
  JSON.stringify({
    answer: answer.choices[0].message.content,
    models: models.data.map((model) => model.id),
  }),
);
