// The gateway as this page sees it: three reads, each of which may fail on its own.

const STORED = "twinrail.key";

export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || `HTTP ${status}`);
    this.status = status;
    this.fix = problem.fix || "";
  }
}

export class Unreachable extends Error {}

// A key in the fragment is never sent to a server; taking it out of the address bar keeps it out of history,
// bookmarks and screenshots as well.
export function takeKeyFromAddress() {
  const given = new URLSearchParams(location.hash.slice(1)).get("key");
  if (given) {
    sessionStorage.setItem(STORED, given.trim());
    history.replaceState(null, "", location.pathname + location.search);
  }
}

export const storedKey = () => sessionStorage.getItem(STORED) || "";
export const keepKey = (key) => sessionStorage.setItem(STORED, key.trim());
export const forgetKey = () => sessionStorage.removeItem(STORED);

async function get(path, { allow = [] } = {}) {
  const headers = { Accept: "application/json" };
  if (storedKey()) headers.Authorization = `Bearer ${storedKey()}`;
  let response;
  try {
    response = await fetch(path, { headers, cache: "no-store", credentials: "omit", signal: AbortSignal.timeout(8000) });
  } catch (error) {
    throw new Unreachable(error.message);
  }
  const body = await response.json().catch(() => ({}));
  if (!response.ok && !allow.includes(response.status)) throw new Refused(response.status, body);
  return body;
}

export const readReadiness = () => get("/readyz", { allow: [503] });
export const readRails = () => get("/v1/rails");
export const readTurns = (limit) => get(`/v1/turns?limit=${limit}`);
export const readTurn = (id) => get(`/v1/turns/${encodeURIComponent(id)}`);
