// For the pages Try and Chat: an event stream that survives restarts of the server, requests, and elements.

const csrf = document.querySelector("meta[name=csrf-token]").content;

/** Follow an event stream. handle: called with each event. state: called with true or false as the connection comes and goes.
 *  Browsers reconnect with Last-Event-ID, except after an error page, such as that of a proxy whose server is away. Returns a function that stops. */
export function follow(address, handle, state = () => {}) {
  let last = "", source, isStopped = false;
  const open = () => {
    if (isStopped) return;
    source = new EventSource(last ? `${address}?after=${last}` : address);
    source.onopen = () => state(true);
    source.onmessage = (message) => { last = message.lastEventId || last; handle(JSON.parse(message.data)); };
    source.onerror = () => {
      if (isStopped) return;
      state(false);
      if (source.readyState === EventSource.CLOSED) setTimeout(open, 1500);
    };
  };
  open();
  addEventListener("pagehide", () => source.close());
  addEventListener("pageshow", (event) => { if (event.persisted) open(); });
  return () => { isStopped = true; source.close(); };
}

/** Send a form. Returns the answer; if it is an error, an object with `error`, one line for people. */
export async function post(address, fields) {
  try {
    const answer = await fetch(address, { method: "POST", headers: { "X-CSRF-Token": csrf }, body: new URLSearchParams(fields) });
    if (answer.headers.get("Content-Type")?.startsWith("application/json")) return await answer.json();
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    return { error: page.querySelector("main p")?.textContent || `The server answered ${answer.status}.` };
  } catch {
    return { error: "The server cannot be reached. Try again in a moment." };
  }
}

/** An element with properties and children; strings become text, never HTML. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

export const placeText = (place) => place === 0 ? "Writing candidates…" : place === 1 ? "Next in the queue" : `${place} comments before this one in the queue`;
