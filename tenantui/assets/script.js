// Nothing here is needed: it helps where there is JavaScript.
(() => {
  "use strict";
  const root = document.querySelector(".tu");
  const key = "tenantui-theme";

  // The theme, where somebody wants another one than the system's.
  const dark = () => {
    const set = root.dataset.theme;
    return set ? set === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  };
  const saved = (() => { try { return localStorage.getItem(key); } catch { return null; } })();
  if (root && root.classList.contains("shell")) {
    if (saved === "dark" || saved === "light") root.dataset.theme = saved;
    for (const button of document.querySelectorAll(".theme")) {
      const name = () => { button.textContent = dark() ? "Light theme" : "Dark theme"; };
      name();
      button.hidden = false;
      button.addEventListener("click", () => {
        root.dataset.theme = dark() ? "light" : "dark";
        try { localStorage.setItem(key, root.dataset.theme); } catch { /* it lasts for this page then */ }
        name();
      });
    }
  }

  // What a bar stands for, in words, while the pointer is over it.
  for (const chart of document.querySelectorAll(".tu .chart")) {
    const readout = chart.querySelector(".readout");
    if (!readout) continue;
    const usual = readout.textContent;
    for (const bar of chart.querySelectorAll(".bar")) {
      const title = bar.querySelector("title");
      if (!title) continue;
      bar.addEventListener("pointerenter", () => { readout.textContent = title.textContent; });
      bar.addEventListener("pointerleave", () => { readout.textContent = usual; });
    }
  }

  // A form is sent once.
  for (const form of document.querySelectorAll(".tu form[method=post]")) {
    form.addEventListener("submit", (event) => {
      if (form.dataset.sent) { event.preventDefault(); return; }
      form.dataset.sent = "yes";
    });
  }
  addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll(".tu form[data-sent]")) delete form.dataset.sent;
  });
})();
