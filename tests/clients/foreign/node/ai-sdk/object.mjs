// An answer as an object that a zod schema describes, whole and while it grows.
import { openai } from "@ai-sdk/openai";
import { generateObject, generateText, Output, streamText } from "ai";
import { z } from "zod";

const schema = z.object({ mood: z.enum(["calm", "cross"]) });
const asked = { model: openai("sonnet"), prompt: "How are you?" };
const { object } = await generateObject({ ...asked, schema });
const { output } = await generateText({ ...asked, output: Output.object({ schema }) });
const stream = streamText({ ...asked, output: Output.object({ schema }) });
const grown = [];
for await (const partial of stream.partialOutputStream) grown.push(partial);
console.log(JSON.stringify({ object, output, grown }));
