// Runs PGlite off the main thread. One request at a time comes in; answers go out in order.
import { parentPort, workerData } from 'node:worker_threads';
import { PGlite } from '@electric-sql/pglite';

// Values as `pg` gives them: bigint and numeric stay text, json is parsed, timestamps are Dates.
const asText = (value) => value;
const parsers = { 20: asText, 1700: asText };
const db = await PGlite.create(workerData.directory ? { dataDir: workerData.directory, relaxedDurability: true, parsers } : { parsers });
parentPort.postMessage({ ready: true });

parentPort.on('message', async ({ id, kind, sql, params }) => {
  try {
    parentPort.postMessage({ id, result: await run(kind, sql, params) });
  } catch (error) {
    const { message, code, detail, hint, constraint, table, column, schema, severity, where } = error;
    parentPort.postMessage({
      id,
      error: { message: String(message ?? error), code, detail, hint, constraint, table, column, schema, severity, where },
    });
  }
});

async function run(kind, sql, params) {
  if (kind === 'copy') {
    await db.query(sql, [], { blob: new Blob([params]) });
    return { rows: [], rowCount: 0 };
  }
  if (kind === 'query and copy') {
    await db.exec('begin');
    try {
      const { rows } = await db.query(sql, params.params);
      if (params.copy) await db.query(params.copy.sql, [], { blob: new Blob([params.copy.text]) });
      await db.exec('commit');
      return { rows, rowCount: rows.length };
    } catch (error) {
      await db.exec('rollback');
      throw error;
    }
  }
  if (kind === 'close') {
    await db.close();
    return { rows: [], rowCount: 0 };
  }
  if (params === undefined || params.length === 0) {
    const results = await db.exec(sql);
    const last = results.at(-1);
    return { rows: last?.rows ?? [], rowCount: last?.affectedRows || last?.rows.length || 0 };
  }
  const { rows, affectedRows } = await db.query(sql, params);
  return { rows, rowCount: affectedRows || rows.length };
}
