// The page Chat: shows the room's events, sends messages and cancellations.
import { follow, make, placeText, post } from "./live.js";

const room = document.getElementById("room"), form = document.getElementById("say"), text = form.elements.text;
const problem = document.getElementById("problem"), connection = document.getElementById("connection");
const { me, bot, base } = room.dataset;
const waiting = new Map(); // id -> { reply, status, isWriting } of the messages without an end, oldest first
const known = new Set(); // ids of all messages

const isAtEnd = () => innerHeight + scrollY > document.documentElement.scrollHeight - 120;

function line(kind, name, body, utc) {
  const time = make("time", { className: "small quiet", dateTime: new Date(utc * 1000).toISOString() }, new Date(utc * 1000).toLocaleTimeString([], { timeStyle: "short" }));
  return make("div", { className: `line ${kind}` }, make("p", { className: "small" }, make("strong", {}, make("bdi", {}, name)), " ", time), make("div", { className: "body", dir: "auto" }, body));
}

const show = {
  message: ({ id, nick, person, text: body, utc }) => {
    const status = make("span"), reply = make("div", { className: "waiting small quiet" }, status);
    if (person === me) {
      const cancel = make("button", { type: "button", className: "small" }, "Cancel");
      cancel.addEventListener("click", async () => complain(await post(`${base}cancel`, { message: id })));
      reply.append(" ", cancel);
    }
    room.append(make("li", {}, line(person === me ? "mine" : "theirs", nick, body, utc), reply));
    known.add(id);
    waiting.set(id, { reply, status, isWriting: false });
  },
  writing: ({ message }) => { waiting.get(message).isWriting = true; },
  answer: ({ id, message, text: body, why }) => {
    const { reply } = waiting.get(message);
    reply.replaceWith(body === null ? make("div", { className: "waiting small quiet" }, `${bot}: ${why}`) : line("bot", bot, body, Number(id.split("-")[0]) / 1000));
    waiting.delete(message);
  },
  cancelled: ({ message }) => {
    waiting.get(message).reply.replaceChildren("Cancelled");
    waiting.delete(message);
  },
};

function showPlaces() {
  let place = 0;
  for (const { status, isWriting } of waiting.values()) {
    const text = placeText(isWriting ? 0 : Math.max(place, 1));
    if (status.textContent !== text) status.textContent = text;
    place += 1;
  }
}

function complain(answer) {
  problem.textContent = answer.error || "";
  problem.hidden = !answer.error;
  return !answer.error;
}

follow(`${base}events`, (event) => {
  const stays = isAtEnd();
  if (event.type === "message" ? !known.has(event.id) : waiting.has(event.message)) show[event.type]?.(event);
  showPlaces();
  if (stays) scrollTo(0, document.documentElement.scrollHeight);
}, (isOpen) => { connection.textContent = isOpen ? "Connected" : "Connection lost, trying again…"; });

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const body = text.value;
  if (!body.trim()) return;
  text.value = "";
  if (!complain(await post(`${base}say`, { text: body })) && !text.value) text.value = body;
  text.focus();
});

text.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); form.requestSubmit(); }
});
