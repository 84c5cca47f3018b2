// Drops records of one level, and hides e-mail addresses.

let dropLevel = "debug";

/** Once, before any record, with the `config` of the pipeline file: JSON, or an empty text. Throw, and the pipeline does not start. */
export function init(config) {
  if (config) dropLevel = JSON.parse(config).drop_level ?? dropLevel;
}

/** One record. Return what it becomes: nothing (dropped), a text, bytes, or a list of them. Throw, and it is set aside with that reason. */
export function transform(event) {
  const record = JSON.parse(event.text());
  if (record.level === undefined) throw new Error("no field `level`");
  if (record.level === dropLevel) return;
  if (record.email !== undefined) record.email = "***";
  return JSON.stringify(record);
}
