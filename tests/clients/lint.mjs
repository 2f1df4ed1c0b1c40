// usage: lint.mjs FILE
//
// Checks an OpenAPI document with the recommended rules of Redocly.
import { readFile } from "node:fs/promises";

import { createConfig, lintFromString } from "@redocly/openapi-core";

const [, , file] = process.argv;
const rules = {
  // The root, the documentation and the health checks refuse nothing.
  "operation-4xx-response": "off",
  // The answer of a live session is 101, and its messages are no bodies.
  "operation-2xx-response": "off",
  "no-unused-components": "off",
};
const config = await createConfig({ extends: ["recommended"], rules });
const problems = await lintFromString({ source: await readFile(file, "utf8"), absoluteRef: file, config });
for (const { severity, ruleId, message, location } of problems) {
  console.error(`${severity} ${ruleId}: ${message} (${location[0]?.pointer})`);
}
process.exit(problems.length > 0 ? 1 : 0);
