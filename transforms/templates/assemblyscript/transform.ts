// Drops records of one level, and hides e-mail addresses.
import { JSON } from "json-as";
import { Event, Outcome } from "./hydrant";

let dropLevel = "debug";

/** Once, before any record, with the `config` of the pipeline file: JSON, or an empty text. Give an empty text if all is well,
 * else why not: then the pipeline does not start. */
export function init(config: string): string {
  if (config.length > 0) {
    const level = JSON.parse<JSON.Obj>(config).get("drop_level");
    if (level) dropLevel = level.get<string>();
  }
  return "";
}

/** One record: `event.text()`, `event.bytes()`, `event.arrivalMs`, `event.key()`, `event.topic()`. Give what it becomes. AssemblyScript has no
 * exceptions: what is no JSON traps, and that record alone is set aside. */
export function transform(event: Event): Outcome {
  const record = JSON.parse<JSON.Obj>(event.text());
  const level = record.get("level");
  if (!level) return Outcome.failed("no field `level`");
  if (level.get<string>() == dropLevel) return Outcome.dropped();
  if (record.has("email")) record.set("email", "***");
  return Outcome.text(JSON.stringify(record));
}
