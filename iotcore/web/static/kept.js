// What a technician told and nobody has taken yet: kept in the browser's own store, sent in order, each under a name of its own.

const NAME = "iotcore";
const ENTRIES = "entries";

function asked(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

let opened = null;

function open() {
  opened ||= new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(ENTRIES, { keyPath: "order", autoIncrement: true });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  return opened;
}

async function within(mode, work) {
  const transaction = (await open()).transaction(ENTRIES, mode);
  const answer = await asked(work(transaction.objectStore(ENTRIES)));
  await new Promise((resolve, reject) => {
    transaction.oncomplete = resolve;
    transaction.onabort = transaction.onerror = () => reject(transaction.error);
    if (mode === "readonly") {
      resolve();
    }
  });
  return answer;
}

export const put = (entry) => within("readwrite", (store) => store.put(entry));
export const drop = (order) => within("readwrite", (store) => store.delete(order));
export const all = () => within("readonly", (store) => store.getAll());

export function name() {
  return crypto.randomUUID();
}

// Sends one entry. Returns null when it was taken, the refusal when there is one; throws when there is no network or no platform.
export async function send(entry) {
  const query = new URLSearchParams({ kind: entry.kind, at_ms: String(entry.at_ms), seen: String(entry.seen) });
  const path = `/commissioning/${encodeURIComponent(entry.device)}/entries/${encodeURIComponent(entry.id)}?${query}`;
  const headers = { "Content-Type": entry.kind === "photo" ? entry.body.type || "image/jpeg" : "application/json" };
  const response = await fetch(path, { method: "PUT", headers, body: entry.kind === "photo" ? entry.body : JSON.stringify(entry.body) });
  if (response.ok) {
    return null;
  }
  if (response.status >= 500 || response.status === 401 || response.status === 403) {
    throw new Error(`HTTP ${response.status}`);
  }
  try {
    const said = await response.json();
    return { reason: said.reason ?? said.title, detail: said.detail };
  } catch {
    return { reason: `HTTP ${response.status}`, detail: "" };
  }
}
