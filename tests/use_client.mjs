// Uses the client that swagger-typescript-api has made of the daemon's document: node use_client.mjs CLIENT URL

import assert from "node:assert/strict";

const [file, baseUrl] = process.argv.slice(2);
const { Api } = await import(file);
const { v1 } = new Api({ baseUrl });

const status = await v1.status();
assert.equal(status.data.api_version, 1);
const ports = (await v1.listPorts()).data;
assert.ok(ports.some((port) => port.name === "red"), JSON.stringify(ports));
const added = await v1.addPort({ name: "scripted", kind: "tap", switch: "main" });
assert.equal(added.status, 201);
assert.ok(added.data.changes.some((change) => change.name === "scripted"), JSON.stringify(added.data));
await v1.patchPort("scripted", { mtu: 1400 });
const port = (await v1.getPort("scripted")).data;
assert.deepEqual([port.mtu, port.state], [1400, "up"]);
// An error has the shape that the document tells.
const refused = await v1.getPort("nowhere").catch((error) => error);
assert.deepEqual([refused.status, refused.error.code], [404, "not-found"]);
