// The gateway as the pages see it. Each call may fail on its own.

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

async function ask(path, { method = "GET", body } = {}) {
  const headers = { Accept: "application/json" };
  if (storedKey()) headers.Authorization = `Bearer ${storedKey()}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  try {
    return await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), cache: "no-store", credentials: "omit", signal: AbortSignal.timeout(8000) });
  } catch (error) {
    throw new Unreachable(error.message);
  }
}

async function call(path, { allow = [], ...request } = {}) {
  const response = await ask(path, request);
  const body = await response.json().catch(() => ({}));
  if (!response.ok && !allow.includes(response.status)) throw new Refused(response.status, body);
  return body;
}

const get = call;
const given = (filters) => new URLSearchParams(Object.entries(filters).filter(([, value]) => value !== "" && value !== null && value !== undefined));

export const readReadiness = () => get("/readyz", { allow: [503] });
export const readRails = () => get("/v1/rails");
export const readTurns = (limit) => get(`/v1/turns?limit=${limit}`);
export const readTurn = (id) => get(`/v1/turns/${encodeURIComponent(id)}`);

export const readReviews = (filters) => get(`/v1/reviews?${given(filters)}`);
export const readReview = (id) => get(`/v1/reviews/${encodeURIComponent(id)}`);
export const readLabels = (id) => get(`/v1/turns/${encodeURIComponent(id)}/labels`);
export const giveReading = (id, body) => call(`/v1/reviews/${encodeURIComponent(id)}`, { method: "POST", body });
export const undoReading = (id) => call(`/v1/reviews/${encodeURIComponent(id)}:undo`, { method: "POST", body: {} });

export const readReports = (filters) => get(`/v1/reports?${given(filters)}`);
export const readReport = (name) => get(`/v1/reports/${encodeURIComponent(name)}`);

export async function readExport(filters) {
  const response = await ask(`/v1/reviews/export?${given(filters)}`);
  if (!response.ok) throw new Refused(response.status, await response.json().catch(() => ({})));
  return response.blob();
}
