// Drives the Flight SQL clients of npm, and prints what it found as JSON.
//
// Run by test_npm.py as `node driver.cjs CLIENT HOST PORT` with a list of calls as JSON on stdin; NODE_PATH has the packages.
"use strict";

const { tableFromIPC } = require("apache-arrow");

/** Values as JSON can hold them. */
function plain(value) {
  if (value === null || value === undefined) return null;
  if (typeof value === "bigint") return Number(value);
  if (value instanceof Uint8Array && !Array.isArray(value)) return Buffer.from(value).toString("hex");
  if (value instanceof Date) return value.toISOString();
  if (typeof value === "object") {
    if (typeof value.toJSON === "function") return plain(value.toJSON());
    if (typeof value[Symbol.iterator] === "function") return Array.from(value, plain);
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plain(inner)]));
  }
  return value;
}

function rowsOf(table) {
  return { columns: table.schema.fields.map((field) => field.name), rows: table.toArray().map((row) => Object.values(plain(row))) };
}

/** Calls of @lakehouse-rs/flight-sql-client: Rust, of an old arrow; each query is prepared. */
async function lakehouse(host, port) {
  const { createFlightSqlClient } = require("@lakehouse-rs/flight-sql-client");
  const client = await createFlightSqlClient({ host, port, tls: false, username: "local", password: "anything", headers: [] });
  const table = async (buffer) => rowsOf(tableFromIPC(await buffer));
  return {
    query: (sql) => table(client.query(sql)),
    catalogs: () => table(client.getCatalogs()),
    schemas: (options) => table(client.getDbSchemas(options)),
    tables: (options) => table(client.getTables(options)),
  };
}

/** Calls of @lancedb/arrow-flight-sql-client: grpc-js and Arrow in JavaScript. */
async function lancedb(host, port) {
  const { Client } = require("@lancedb/arrow-flight-sql-client");
  const client = await Client.connect({ host: `${host}:${port}`, username: "local", password: "anything", insecure: true });
  return {
    query: async (sql) => {
      const rows = await (await client.query(sql)).collectToObjects();
      return { columns: rows.length ? Object.keys(rows[0]) : [], rows: rows.map((row) => Object.values(plain(row))) };
    },
    count: async (sql) => {
      let rows = 0;
      for await (const batch of (await client.query(sql)).toArrowStream()) rows += batch.numRows;
      return rows;
    },
  };
}

async function main() {
  const [which, host, port] = process.argv.slice(2);
  const calls = JSON.parse(require("fs").readFileSync(0, "utf8"));
  const client = await { lakehouse, lancedb }[which](host, Number(port));
  const answers = [];
  for (const [call, argument] of calls) {
    try {
      answers.push({ ok: await client[call](argument) });
    } catch (error) {
      answers.push({ error: String(error.message ?? error) });
    }
  }
  process.stdout.write(JSON.stringify(answers), () => process.exit(0));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
