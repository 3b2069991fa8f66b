// Errors; the package tries again what may be tried again.
import { openai } from "@ai-sdk/openai";
import { APICallError, generateText } from "ai";

const ask = async (model, maxRetries) => {
  try {
    return (await generateText({ model: openai(model), prompt: "Hello", maxRetries })).text;
  } catch (error) {
    return [APICallError.isInstance(error), error.statusCode, error.isRetryable];
  }
};
console.log(
  JSON.stringify([await ask("gpt-4o", 0), await ask("sonnet", 0), await ask("sonnet", 2)]),
);
