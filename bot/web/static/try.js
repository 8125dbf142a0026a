// The page Try: sends the form, shows candidates as they come, then their scores, then the choice.
import { follow, make, placeText, post } from "./live.js";

const form = document.getElementById("ask"), status = document.getElementById("status"), list = document.getElementById("candidates");
const outcome = document.getElementById("outcome"), start = document.getElementById("start"), stop = document.getElementById("cancel");
const SCORES = ["rank_score", "realism_score", "upvote_score", "relevance_score", "choice_score"];
let rows = {}, job = null, end = () => {};

const show = {
  place: ({ place }) => { status.textContent = placeText(place); },
  candidate: ({ number, reply }) => {
    const verdict = make("p", { className: "small quiet verdict" }), scores = make("p", { className: "small quiet scores" });
    const item = make("li", { className: "card candidate" }, make("div", { className: "body", dir: "auto" }, reply || "(empty)"), scores, verdict);
    rows[number] = { item, verdict, scores, rank: 0 };
    list.append(item);
    status.textContent = `${Object.keys(rows).length} of ${form.num_candidates.value} candidates written`;
  },
  scores: ({ rows: scored }) => {
    for (const row of scored.filter(({ number }) => rows[number])) {  // a candidate is missing if Redis was away
      const shown = SCORES.filter((name) => row[name] !== null);
      rows[row.number].scores.textContent = shown.map((name) => `${name.replace("_score", "")} ${row[name].toFixed(2)}`).join(" · ");
      rows[row.number].rank = row.rank_score ?? 0;
    }
    status.textContent = "Choosing…";
  },
  choice: ({ rows: judged, chosen }) => {
    const order = ["chosen", "kept", "refused"];
    judged = judged.filter(({ number }) => rows[number]);
    judged.sort((a, b) => order.indexOf(a.verdict) - order.indexOf(b.verdict) || rows[b.number].rank - rows[a.number].rank);
    for (const row of judged) {
      const { item, verdict } = rows[row.number];
      item.classList.add(row.verdict);
      verdict.textContent = row.verdict === "chosen" ? "Chosen: this is what the bot would post" : `${row.verdict === "kept" ? "Kept" : "Refused"}: ${row.phrase}`;
      list.append(item);
    }
    finish(chosen === null ? "No reply is good enough" : "The bot would reply. The first one is its choice.", chosen === null ? "none" : "yes");
  },
  refused: ({ reason, phrase }) => finish(`No reply. The comment is not answered: ${phrase} (${reason}).`, "none"),
  failed: ({ message }) => finish(`This did not work: ${message}`, "none"),
  cancelled: () => finish("Cancelled", "none"),
};

function finish(text, kind) {
  end();
  job = null;
  status.textContent = "";
  outcome.textContent = text;
  outcome.className = `notice ${kind}`;
  outcome.hidden = false;
  start.disabled = false;
  stop.hidden = true;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (job) return;
  rows = {};
  list.replaceChildren();
  outcome.hidden = true;
  start.disabled = true;
  status.textContent = "Sending…";
  const answer = await post(form.action, new FormData(form));
  if (answer.error) return finish(answer.error, "none");
  job = answer.job;
  stop.hidden = false;
  end = follow(`${form.action}${job}/events`, (each) => show[each.type]?.(each));
});

stop.addEventListener("click", async () => {
  const answer = job && await post(`${form.action}${job}/cancel`, {});
  if (answer?.error) finish(answer.error, "none");
});

form.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); form.requestSubmit(start); }
});
