// The console's loop: read three things every five seconds, show what came, say plainly what did not.

import { forgetKey, keepKey, readRails, readReadiness, readTurn, readTurns, Refused, storedKey, takeKeyFromAddress, Unreachable } from "./api.js";
import { el } from "./elements.js";
import { partsOf, railsOf, rowsOf, turnOf } from "./layers.js";
import { showHealth, showRails } from "./rails.js";
import { fillTurn, TurnList } from "./turns.js";

const EVERY_MS = 5000;
const SHOWN_TURNS = 25;
const at = (id) => document.getElementById(id);

const turns = new TurnList(at("turns"), openTurn);
let lastSeen = null;
let timer = null;
let reading = false;
let readAgain = false;
let shownState = "";

function say(state, text) {
  if (shownState === state + text) return;
  shownState = state + text;
  at("link").dataset.state = state;
  at("link").textContent = text;
}

function gate(title, text) {
  at("gate-title").textContent = title;
  at("gate-text").textContent = text;
  at("gate").hidden = false;
  at("forget").hidden = !storedKey();
}

function note(...content) {
  at("turns-note").replaceChildren(...(content.length ? [el("div", { class: "empty" }, content)] : []));
}

async function openTurn(turn, body) {
  body.replaceChildren(el("p", { class: "muted" }, "Loading…"));
  try {
    fillTurn(body, turnOf(await readTurn(turn.id)));
  } catch (error) {
    const again = el("button", { type: "button", class: "quiet", on: { click: () => openTurn(turn, body) } }, "Try again");
    body.replaceChildren(el("p", { class: "muted" }, `This turn could not be read: ${error.message} `), again);
  }
}

async function health() {
  showHealth(at("health"), partsOf(await readReadiness()));
}

async function rails() {
  showRails(at("rails"), railsOf(await readRails()));
}

async function lastTurns() {
  const shown = rowsOf(await readTurns(SHOWN_TURNS));
  turns.show(shown);
  at("turns-count").textContent = shown.length ? `newest ${shown.length}` : "";
  if (shown.length) return note();
  return note(
    el("p", {}, "No turns yet. Ask something:"),
    el("pre", {}, el("code", {}, 'twinrail ask "How long do you keep deleted files?"')));
}

function refusal(errors) {
  const refused = errors.filter((error) => error instanceof Refused);
  const unknown = refused.find((error) => error.status === 401);
  if (unknown) {
    gate("This key is not valid", "The gateway does not know this key, or it was revoked. The command twinrail keys list shows the keys there are; paste one with scope review or admin.");
    return "Key refused";
  }
  const scope = refused.find((error) => error.status === 403);
  if (scope) {
    gate("This key may not read turns", `${scope.message} Use a key with scope review or admin.`);
    return "Key lacks a scope";
  }
  return refused.length ? `Gateway error: ${refused[0].message}` : "";
}

async function refresh() {
  const key = storedKey();
  const reads = key ? [health(), rails(), lastTurns()] : [health()];
  const outcomes = await Promise.allSettled(reads);
  const errors = outcomes.filter((outcome) => outcome.status === "rejected").map((outcome) => outcome.reason);
  for (const error of errors) if (!(error instanceof Refused || error instanceof Unreachable)) throw error;

  const down = errors.length > 0 && errors.every((error) => error instanceof Unreachable);
  document.body.classList.toggle("stale", down);
  if (down) {
    say("down", lastSeen ? `Gateway does not answer since ${lastSeen}; trying every 5 s` : "Gateway does not answer; trying every 5 s");
    return;
  }
  lastSeen = new Date().toLocaleTimeString();
  if (!key) {
    document.body.classList.add("locked");
    gate("A key is needed", "Paste an API key with scope review or admin. The command twinrail up prints this page's address with a key in it.");
    say("wait", "No key");
    return;
  }
  const refused = refusal(errors);
  document.body.classList.toggle("locked", Boolean(refused) && !at("turns").hasChildNodes());
  if (refused) say("down", refused);
  else {
    at("gate").hidden = true;
    at("forget").hidden = false;
    say("live", `Live · ${lastSeen}`);
  }
}

// One loop, however many things ask for a refresh; a hidden tab asks nothing of the gateway.
async function loop() {
  if (reading) {
    readAgain = true;
    return;
  }
  clearTimeout(timer);
  reading = true;
  try {
    if (!document.hidden) await refresh();
  } catch (error) {
    say("down", `This page could not read the answer: ${error.message}`);
  } finally {
    reading = false;
  }
  timer = setTimeout(loop, readAgain ? 0 : EVERY_MS);
  readAgain = false;
}

at("gate-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keepKey(at("gate-key").value);
  at("gate-key").value = "";
  loop();
});
at("forget").addEventListener("click", () => {
  forgetKey();
  turns.clear();
  at("rails").replaceChildren();
  loop();
});
addEventListener("hashchange", () => { takeKeyFromAddress(); loop(); });
document.addEventListener("visibilitychange", () => { if (!document.hidden) loop(); });

takeKeyFromAddress();
loop();
