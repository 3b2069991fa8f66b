// Errors are the package's own classes; what may be tried again is.
import OpenAI from "openai";

const ask = async (client, model) => {
  try {
    const answer = await client.chat.completions.create({
      model,
      messages: [{ role: "user", content: "Hello" }],
    });
    return answer.choices[0].message.content;
  } catch (error) {
    return [error.constructor.name, error.status, error.code, typeof error.requestID];
  }
};
console.log(
  JSON.stringify([
    await ask(new OpenAI({ apiKey: "not-needed" }), "sonnet"),
    await ask(new OpenAI(), "gpt-4o"),
    await ask(new OpenAI({ maxRetries: 0 }), "sonnet"),
    await ask(new OpenAI({ maxRetries: 2 }), "sonnet"),
  ]),
);
