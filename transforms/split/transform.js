// Makes a record of each element of an array: an order with three items becomes three records.

let config = {};

/** The config: `{ field: items, into: item }`. The element takes the place of the array, under another name if `into` is given. */
export function init(text) {
  config = JSON.parse(text || "{}");
  if (!config.field) throw new Error("config: `field`, the array to split by, is missing");
}

/** An empty array leaves nothing of its record; a record without the array stays as it is. */
export function transform(event) {
  const text = event.text();
  const { [config.field]: elements, ...rest } = JSON.parse(text);
  if (!Array.isArray(elements)) return text;
  return elements.map((element) => JSON.stringify({ ...rest, [config.into ?? config.field]: element }));
}
