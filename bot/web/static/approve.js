// Keys for the page of approve.py. Each key presses a button or follows a link of the page, so that everything also works without keys.
"use strict";
(() => {
  const form = document.getElementById("decide");
  const byId = (id) => document.getElementById(id);
  const button = (act) => form && form.querySelector(`button[value=${act}]`);
  const candidates = form ? [...form.querySelectorAll("input[name=candidate_id]")] : [];
  const edited = byId("text");
  let sent = false, typed = Boolean(document.querySelector("#edit[open]"));

  const textOf = (input) => input.closest("label").querySelector(".body").textContent;
  function select(input) {
    if (!input) return;
    input.checked = true;
    input.focus();
    if (edited && !typed) edited.value = textOf(input);
  }
  function open(id, field) {
    const panel = byId(id);
    if (!panel) return;
    if (id === "edit" && !typed) edited.value = textOf(candidates.find((each) => each.checked));
    panel.open = true;
    field.focus();
    panel.scrollIntoView({ block: "center" });
  }
  function press(element) {
    if (!element || sent) return;
    element.click();
  }
  const keys = {
    a: () => press(button("approve")), s: () => press(button("skip")), u: () => press(button("undo")),
    e: () => open("edit", edited), r: () => open("reject", byId("reason")),
    j: () => press(byId("after")), k: () => press(byId("before")),
  };

  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.metaKey || event.repeat || event.isComposing) return;
    const field = event.target.closest("textarea");
    if (field) {
      if (event.key === "Escape") {
        if (field === edited) typed = false;  // what was typed is given up
        field.blur(); field.closest("details").open = false; event.preventDefault();
      }
      const sends = field.id === "reason" ? !event.shiftKey : event.ctrlKey;
      if (event.key === "Enter" && sends) { event.preventDefault(); press(button(field.id === "reason" ? "reject" : "edit")); }
      return;
    }
    if (event.ctrlKey || event.target.closest("input[type=text]")) return;
    if (event.key === "Enter" && event.target.closest("input[type=radio]")) return event.preventDefault();  // it would press the first button
    const key = event.key.toLowerCase();
    if (/^[1-9]$/.test(key) && candidates[key - 1]) { event.preventDefault(); select(candidates[key - 1]); }
    else if (key.length === 1 && keys[key]) { event.preventDefault(); keys[key](); }
  });

  if (!form) return;
  form.addEventListener("submit", (event) => { if (sent) event.preventDefault(); sent = true; });
  window.addEventListener("pageshow", () => { sent = false; });  // after «back», the page is used again
  candidates.forEach((each) => each.addEventListener("change", () => select(each)));
  if (edited) edited.addEventListener("input", () => { typed = true; });
  [["to-edit", "edit", edited], ["to-reject", "reject", byId("reason")]].forEach(([id, panel, field]) => {
    const opener = byId(id);
    if (!opener) return;
    opener.hidden = false;
    opener.addEventListener("click", () => open(panel, field));
  });
})();
